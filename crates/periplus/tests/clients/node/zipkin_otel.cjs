// Sends one trace with OpenTelemetry's Zipkin exporter and prints its id.
//
// usage: zipkin_otel.cjs v2-json HOST:PORT
'use strict';

const { SpanKind, SpanStatusCode, context, trace } = require('@opentelemetry/api');
const { ZipkinExporter } = require('@opentelemetry/exporter-zipkin');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');

async function main() {
  const [, endpoint] = process.argv.slice(2);
  const exporter = new ZipkinExporter({ url: `http://${endpoint}/api/v2/spans` });
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'Cart Service' }),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  const tracer = provider.getTracer('shop.lib', '1.2');
  const server = tracer.startSpan('GET /cart', { kind: SpanKind.SERVER });
  server.setAttributes({ 'http.path': '/cart', size: 7 });
  server.addEvent('cache miss');
  const client = tracer.startSpan(
    'GET /prices',
    { kind: SpanKind.CLIENT },
    trace.setSpan(context.active(), server),
  );
  client.setAttribute('peer.service', 'prices');
  client.setStatus({ code: SpanStatusCode.ERROR, message: 'timed out' });
  client.end();
  server.end();
  await provider.forceFlush();
  await provider.shutdown();
  console.log(server.spanContext().traceId);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
