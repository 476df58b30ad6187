// Sends one trace with OpenTelemetry's SDK and prints its id.
//
// usage: otel.cjs EXPORTER ENDPOINT [COMPRESSION]
'use strict';

const { SpanKind, SpanStatusCode, context, trace } = require('@opentelemetry/api');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');

function exporterOf(kind, endpoint, compression) {
  const [host, port] = endpoint.split(':');
  switch (kind) {
    case 'otlp-grpc': {
      const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-grpc');
      return new OTLPTraceExporter({ url: `http://${endpoint}`, compression });
    }
    case 'otlp-json': {
      const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-http');
      return new OTLPTraceExporter({ url: `http://${endpoint}/v1/traces`, compression });
    }
    case 'otlp-protobuf': {
      const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-proto');
      return new OTLPTraceExporter({ url: `http://${endpoint}/v1/traces`, compression });
    }
    case 'jaeger-udp': {
      const { JaegerExporter } = require('@opentelemetry/exporter-jaeger');
      return new JaegerExporter({ host, port: Number(port) });
    }
    case 'jaeger-http': {
      const { JaegerExporter } = require('@opentelemetry/exporter-jaeger');
      return new JaegerExporter({ endpoint: `http://${endpoint}/api/traces` });
    }
    default:
      throw new Error(`unknown exporter ${kind}`);
  }
}

async function main() {
  const [kind, endpoint, compression = 'none'] = process.argv.slice(2);
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'cart service', 'host.name': 'h1' }),
    spanProcessors: [new BatchSpanProcessor(exporterOf(kind, endpoint, compression))],
  });
  const tracer = provider.getTracer('shop.lib', '1.2');
  const server = tracer.startSpan('GET /cart', { kind: SpanKind.SERVER });
  server.setAttributes({ text: 'grüße', int: 7, double: 0.5, bool: true, list: ['a', 'b'] });
  server.addEvent('cache miss', { key: 'cart-7', attempt: 2 });
  const other = { traceId: '00000000000000000000000000000001', spanId: '0000000000000002', traceFlags: 1 };
  const client = tracer.startSpan(
    'GET /prices',
    { kind: SpanKind.CLIENT, links: [{ context: other }] },
    trace.setSpan(context.active(), server),
  );
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
