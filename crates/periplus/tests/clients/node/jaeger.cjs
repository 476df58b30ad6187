// Sends one trace with Jaeger's own client and prints its id.
//
// usage: jaeger.cjs udp|http ENDPOINT
'use strict';

const { initTracer } = require('jaeger-client');
const { Tags } = require('opentracing');

const [transport, endpoint] = process.argv.slice(2);
const [agentHost, agentPort] = endpoint.split(':');
const reporter =
  transport === 'http'
    ? { collectorEndpoint: `http://${endpoint}/api/traces` }
    : { agentHost, agentPort: Number(agentPort) };
const failed = (message) => {
  console.error(message);
  process.exitCode = 1;
};
const tracer = initTracer(
  { serviceName: 'cart service', sampler: { type: 'const', param: 1 }, reporter },
  { logger: { info() {}, error: failed }, tags: { zone: 'z1' } },
);
const server = tracer.startSpan('GET /cart', { tags: { [Tags.SPAN_KIND]: Tags.SPAN_KIND_RPC_SERVER } });
server.addTags({ text: 'grüße', int: 7, double: 0.5, bool: true });
server.log({ event: 'cache miss', key: 'cart-7', attempt: 2 });
const client = tracer.startSpan('GET /prices', {
  childOf: server,
  tags: { [Tags.SPAN_KIND]: Tags.SPAN_KIND_RPC_CLIENT, [Tags.ERROR]: true },
});
client.finish();
server.finish();
const id = server.context().traceIdStr;
tracer.close(() => console.log(id));
