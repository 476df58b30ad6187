// A gRPC server of bytes, for the cases of gRPC's interoperability tests. Prints its port.
'use strict';

const grpc = require('@grpc/grpc-js');

const same = (value) => value;
const method = (name, requestStream, responseStream) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});

const service = {
  Unary: method('Unary', false, false),
  ClientStream: method('ClientStream', true, false),
  ServerStream: method('ServerStream', false, true),
  Bidi: method('Bidi', true, true),
  Fail: method('Fail', false, false),
  Sleep: method('Sleep', false, false),
  Meta: method('Meta', false, false),
};

const server = new grpc.Server();
server.addService(service, {
  Unary: (call, done) => done(null, Buffer.alloc(call.request.readUInt32BE(0))),
  ClientStream: (call, done) => {
    let total = 0;
    call.on('data', (message) => { total += message.length; });
    call.on('end', () => done(null, Buffer.from(String(total))));
  },
  ServerStream: (call) => {
    for (const size of call.request.toString().split(',')) call.write(Buffer.alloc(Number(size)));
    call.end();
  },
  Bidi: (call) => {
    call.on('data', (message) => call.write(message));
    call.on('end', () => call.end());
  },
  Fail: (call, done) => {
    const [code, ...message] = call.request.toString().split(':');
    done({ code: Number(code), details: message.join(':') });
  },
  Sleep: (call, done) => {
    const late = setTimeout(() => done(null, Buffer.from('late')), 30_000);
    call.on('cancelled', () => clearTimeout(late));
  },
  Meta: (call, done) => {
    const [initial, trailing] = [new grpc.Metadata(), new grpc.Metadata()];
    initial.set('x-custom', call.metadata.get('x-custom')[0]);
    trailing.set('x-custom-bin', call.metadata.get('x-custom-bin')[0]);
    call.sendMetadata(initial);
    done(null, call.request, trailing);
  },
});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
