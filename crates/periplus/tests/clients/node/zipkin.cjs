// Sends one trace with Zipkin's own client and prints its id.
//
// usage: zipkin.cjs v1-json|v2-json HOST:PORT
'use strict';

const zipkin = require('zipkin');
const { HttpLogger } = require('zipkin-transport-http');

const [kind, endpoint] = process.argv.slice(2);
const version = kind === 'v1-json' ? 'v1' : 'v2';
const logger = new HttpLogger({
  endpoint: `http://${endpoint}/api/${version}/spans`,
  jsonEncoder: version === 'v1' ? zipkin.jsonEncoder.JSON_V1 : zipkin.jsonEncoder.JSON_V2,
  httpInterval: 50,
  log: { error: (message) => console.error(message) },
});
logger.on('error', (error) => {
  console.error(error);
  process.exitCode = 1;
});
const tracer = new zipkin.Tracer({
  ctxImpl: new zipkin.ExplicitContext(),
  recorder: new zipkin.BatchRecorder({ logger }),
  localServiceName: 'Cart Service',
  supportsJoin: true,
  traceId128Bit: true,
});

const server = tracer.createRootId();
tracer.scoped(() => {
  tracer.setId(server);
  tracer.recordServiceName('Cart Service');
  tracer.recordRpc('GET /cart');
  tracer.recordBinary('http.path', '/cart');
  tracer.recordBinary('size', '7');
  tracer.recordAnnotation(new zipkin.Annotation.ServerRecv());
  tracer.recordMessage('cache miss');
  tracer.scoped(() => {
    const client = tracer.createChildId();
    tracer.setId(client);
    tracer.recordServiceName('Cart Service');
    tracer.recordRpc('GET /prices');
    tracer.recordAnnotation(new zipkin.Annotation.ClientSend());
    tracer.recordAnnotation(
      new zipkin.Annotation.ServerAddr({
        serviceName: 'prices',
        host: new zipkin.InetAddress('10.0.0.9'),
        port: 9000,
      }),
    );
    tracer.recordBinary('error', 'timed out');
    tracer.recordAnnotation(new zipkin.Annotation.ClientRecv());
  });
  tracer.recordAnnotation(new zipkin.Annotation.ServerSend());
});
console.log(server.traceId);
// The logger's timer keeps the process alive: it ends once the queue was posted.
logger.on('success', () => process.exit());
setTimeout(() => {
  console.error('the spans were not sent in time');
  process.exit(1);
}, 20_000);
