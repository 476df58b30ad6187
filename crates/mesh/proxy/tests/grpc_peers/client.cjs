// The cases of gRPC's interoperability tests, against a server of bytes at an address.
'use strict';

const assert = require('node:assert');
const grpc = require('@grpc/grpc-js');

const same = (value) => value;
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
const soon = () => ({ deadline: Date.now() + 20_000 });

function unary(path, request, metadata = new grpc.Metadata(), options = soon()) {
  return new Promise((resolve, reject) => {
    const seen = {};
    const call = client.makeUnaryRequest(path, same, same, request, metadata, options, (error, answer) => {
      if (error) reject(error);
      else resolve(Object.assign(seen, { answer }));
    });
    call.on('metadata', (initial) => { seen.initial = initial; });
    call.on('status', (status) => { seen.status = status; });
  });
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

const status = (call) => new Promise((resolve) => {
  call.on('error', () => {});
  call.on('status', resolve);
});

async function main() {
  // empty_unary, large_unary
  assert.equal((await unary('/test.Echo/Unary', Buffer.alloc(4))).answer.length, 0);
  const large = Buffer.alloc(271_828);
  large.writeUInt32BE(314_159);
  assert.equal((await unary('/test.Echo/Unary', large)).answer.length, 314_159);

  // client_streaming
  const sizes = [27_182, 8, 1828, 45_904];
  const total = await new Promise((resolve, reject) => {
    const call = client.makeClientStreamRequest(
      '/test.Echo/ClientStream', same, same, new grpc.Metadata(), soon(),
      (error, answer) => (error ? reject(error) : resolve(answer)),
    );
    for (const size of sizes) call.write(Buffer.alloc(size));
    call.end();
  });
  assert.equal(total.toString(), '74922');

  // server_streaming
  const got = [];
  const streamed = client.makeServerStreamRequest(
    '/test.Echo/ServerStream', same, same, Buffer.from('31415,9,2653,58979'), new grpc.Metadata(), soon(),
  );
  streamed.on('data', (message) => got.push(message.length));
  assert.equal((await status(streamed)).code, 0);
  assert.deepEqual(got, [31_415, 9, 2653, 58_979]);

  // ping_pong: each message goes only once the one before has come back.
  const bidi = () => client.makeBidiStreamRequest('/test.Echo/Bidi', same, same, new grpc.Metadata(), soon());
  const ping = bidi();
  const ended = status(ping);
  for (const size of sizes) {
    const pong = new Promise((resolve) => ping.once('data', resolve));
    ping.write(Buffer.alloc(size));
    assert.equal((await pong).length, size);
  }
  ping.on('data', () => {});
  ping.end();
  assert.equal((await ended).code, 0);

  // empty_stream
  const empty = bidi();
  empty.on('data', () => assert.fail('a message'));
  empty.end();
  assert.equal((await status(empty)).code, 0);

  // timeout_on_sleeping_server
  const deadline = { deadline: Date.now() + 300 };
  const late = await failure(unary('/test.Echo/Sleep', Buffer.alloc(0), new grpc.Metadata(), deadline));
  assert.equal(late.code, grpc.status.DEADLINE_EXCEEDED);

  // cancel_after_begin, cancel_after_first_response
  const begun = client.makeClientStreamRequest(
    '/test.Echo/ClientStream', same, same, new grpc.Metadata(), soon(), () => {},
  );
  setTimeout(() => begun.cancel(), 100);
  assert.equal((await status(begun)).code, grpc.status.CANCELLED);
  const first = bidi();
  first.once('data', () => first.cancel());
  first.write(Buffer.from('one'));
  assert.equal((await status(first)).code, grpc.status.CANCELLED);

  // status_code_and_message, special_status_message
  for (const [code, message] of [
    [2, 'test status message'],
    [7, '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n'],
  ]) {
    const error = await failure(unary('/test.Echo/Fail', Buffer.from(`${code}:${message}`)));
    assert.equal(error.code, code);
    assert.equal(error.details, message);
  }

  // unimplemented_method, unimplemented_service
  for (const path of ['/test.Echo/Nothing', '/test.Nobody/Unary']) {
    assert.equal((await failure(unary(path, Buffer.alloc(0)))).code, grpc.status.UNIMPLEMENTED);
  }

  // custom_metadata
  const metadata = new grpc.Metadata();
  const binary = Buffer.from([10, 11, 10, 0, 255]);
  metadata.set('x-custom', 'value');
  metadata.set('x-custom-bin', binary);
  const seen = await unary('/test.Echo/Meta', Buffer.from('m'), metadata);
  assert.equal(seen.initial.get('x-custom')[0], 'value');
  assert.deepEqual(seen.status.metadata.get('x-custom-bin')[0], binary);

  // Many at once over the one connection.
  const many = Array.from({ length: 200 }, (_, size) => {
    const request = Buffer.alloc(4);
    request.writeUInt32BE(size);
    return unary('/test.Echo/Unary', request);
  });
  const lengths = (await Promise.all(many)).map(({ answer }) => answer.length);
  assert.deepEqual(lengths, Array.from({ length: 200 }, (_, size) => size));
  client.close();
  console.log('all passed');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
