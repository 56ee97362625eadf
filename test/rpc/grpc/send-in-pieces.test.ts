import { Writable } from 'node:stream';
import { status, type Metadata } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import type { ServedCall } from '../../../src/rpc/grpc/definition.ts';
import { sendInPieces } from '../../../src/rpc/grpc/send-in-pieces.ts';
import { FramedEvent } from '../../../src/wire/batch-event.ts';

const field = Buffer.from('the shared bytes of a batch');
const event = new FramedEvent(300, field);

/** A call as grpc-js hands it to interceptors, with a stream that fails on request. */
function callOn(failure: Error | null = null) {
  const chunks: Buffer[] = [];
  const did: unknown[] = [];
  const write = (chunk: Buffer, _: string, done: (error: Error | null) => void) => {
    chunks.push(chunk);
    done(failure);
  };
  const stream = Object.assign(new Writable({ write }), { headersSent: false });
  stream.on('error', () => undefined);
  const original = {
    stream,
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
  const call = original as unknown as ServedCall;
  sendInPieces(call);
  return { call, stream, chunks, did };
}

const sending = (call: ServedCall, message: unknown) =>
  new Promise<void>((resolve) => {
    call.sendMessage(message, resolve);
  });

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
    const { call, did } = callOn(new Error('gone'));
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

  test('a batch on a stream that has ended', () => {
    const { call, stream, chunks, did } = callOn();
    stream.destroy();
    call.sendMessage(event, () => undefined);
    expect([did, chunks]).toEqual([[event], []]);
  });
});
