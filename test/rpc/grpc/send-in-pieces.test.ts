import { Writable } from 'node:stream';
import type { Metadata } from '@grpc/grpc-js';
import { status, type ServerInterceptor } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { sendInPieces } from '../../../src/rpc/grpc/send-in-pieces.ts';
import { FramedEvent } from '../../../src/wire/batch-event.ts';

type Method = Parameters<ServerInterceptor>[0];
type Call = Parameters<ServerInterceptor>[1];

const field = Buffer.from('the shared bytes of a batch');
const event = new FramedEvent(300, field);

/** A call as grpc-js hands it to interceptors, with a stream that fails on request. */
function callOn(options: { responseStream?: boolean; withStream?: boolean; failure?: Error } = {}) {
  const { responseStream = true, withStream = true, failure = null } = options;
  const chunks: Buffer[] = [];
  const did: unknown[] = [];
  const write = (chunk: Buffer, _: string, done: (error: Error | null) => void) => {
    chunks.push(chunk);
    done(failure);
  };
  const stream = Object.assign(new Writable({ write }), { headersSent: false });
  stream.on('error', () => undefined);
  const original = {
    ...(withStream && { stream }),
    sendMetadata(metadata: Metadata) {
      stream.headersSent = true;
      did.push(metadata.getMap());
    },
    sendMessage(message: unknown) {
      did.push(message);
    },
    sendStatus(sent: { code: status }) {
      did.push(sent.code);
    },
  };
  const call = sendInPieces({ responseStream } as Method, original as unknown as Call);
  return { call, stream, chunks, did };
}

const sending = (call: Call, message: unknown) => new Promise<void>((resolve) => call.sendMessage(message, resolve));

describe('a batch', () => {
  test('is written as grpc-js writes a message, headers first and once, and its shared bytes are not copied', async () => {
    const { call, chunks, did } = callOn();
    await sending(call, event);
    await sending(call, event);
    expect(did).toEqual([{}]);
    const message = new FramedEvent(300, field).toBuffer();
    const prefix = Buffer.from([0, 0, 0, 0, message.length]);
    expect(Buffer.concat(chunks)).toEqual(Buffer.concat([prefix, message, prefix, message]));
    expect(chunks[1]!.buffer).toBe(field.buffer);
    expect(chunks[1]!.byteOffset).toBe(field.byteOffset);
  });

  test('a batch that cannot be written ends the call, and does not count as sent', async () => {
    const { call, did } = callOn({ failure: new Error('gone') });
    let sent = false;
    const ended = Promise.withResolvers<void>();
    const { sendStatus } = call;
    call.sendStatus = (told) => {
      sendStatus.call(call, told);
      ended.resolve();
    };
    call.sendMessage(event, () => (sent = true));
    await ended.promise;
    expect([sent, did]).toEqual([false, [{}, status.INTERNAL]]);
  });
});

describe('grpc-js itself sends', () => {
  test('what is no batch', () => {
    const { call, chunks, did } = callOn();
    const message = Buffer.from('joined');
    call.sendMessage(message, () => undefined);
    expect([did, chunks]).toEqual([[message], []]);
  });

  test.each([
    ['a batch on a stream that has ended', {}, true],
    ['a batch where the stream cannot be reached', { withStream: false }, false],
    ['messages of methods that do not stream', { responseStream: false }, false],
  ])('%s', (_, options, destroyed) => {
    const { call, stream, chunks, did } = callOn(options);
    if (destroyed) stream.destroy();
    call.sendMessage(event, () => undefined);
    expect([did, chunks]).toEqual([[event], []]);
  });
});
