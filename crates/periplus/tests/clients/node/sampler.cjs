// Asks for sampling strategies with OpenTelemetry's sampler, every tenth of a second, and prints each
// new sampler that it makes of the answers.
//
// usage: sampler.cjs HOST:PORT SERVICE

const { JaegerRemoteSampler } = require("@opentelemetry/sampler-jaeger-remote");
const { AlwaysOffSampler } = require("@opentelemetry/sdk-trace-base");

const [address, serviceName] = process.argv.slice(2);
const sampler = new JaegerRemoteSampler({
  endpoint: `http://${address}`,
  serviceName,
  poolingInterval: 100,
  initialSampler: new AlwaysOffSampler(),
});

let seen;
setInterval(() => {
  const now = sampler.toString();
  if (now !== seen) {
    console.log(now);
    seen = now;
  }
}, 20);
setTimeout(() => process.exit(1), 60_000);
