import { describe, expect, test } from 'vitest';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import { MessageBytes } from '../../../src/rpc/bodies/message-bytes.ts';
import { streamedMessages } from '../../../src/rpc/requests/streamed-messages.ts';

function reasonOf(error: unknown): string {
  if (error instanceof Rejection) return `${error.reason}: ${error.message}`;
  throw error;
}

describe('a message in many pieces', () => {
  test('a message in pieces is joined, whatever the sizes of the pieces', () => {
    const whole = Buffer.from(Array.from({ length: 5_000 }, (_, at) => at % 251));
    for (const size of [7, 64, 1_023, 4_999, 5_000]) {
      const message = new MessageBytes(5_000);
      for (let at = 0; at < whole.length; at += size) message.add(whole.subarray(at, at + size));
      expect([size, message.bytes().equals(whole)]).toEqual([size, true]);
    }
  });

  test('a message of one piece is that piece, without a copy', () => {
    const piece = Buffer.from('abc');
    const message = new MessageBytes(10);
    message.add(piece);
    expect(message.bytes()).toBe(piece);
  });

  test('a message in pieces of one byte is refused, because each piece costs a hundred times its byte', () => {
    const message = new MessageBytes(limits.publishBytesMax);
    const addAll = () => {
      for (let count = 0; count < 1_600_000; count++) message.add(Buffer.from([0]));
    };
    expect(addAll).toThrow(/in more than 10\d\d pieces/);
    expect(message.length).toBeLessThan(1_100);
  });

  test('a message that is too large is refused at the piece that exceeds the limit', () => {
    const message = new MessageBytes(10);
    message.add(Buffer.alloc(6));
    expect(() => {
      message.add(Buffer.alloc(5));
    }).toThrow(/larger than 10 bytes/);
  });
});

async function read(pieces: readonly Buffer[], bytesMax = 1_000): Promise<string[]> {
  const texts: string[] = [];
  try {
    const partial = { waits: () => undefined, isWhole: () => undefined, onClose: () => undefined };
    for await (const message of streamedMessages(piecesOf(pieces), bytesMax, partial)) texts.push(message.toString());
  } catch (error) {
    texts.push(reasonOf(error));
  }
  return texts;
}

async function* piecesOf(pieces: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* pieces;
}

describe('the messages of a stream', () => {
  const body = Buffer.from('\0\0\0\0\u0003abc\0\0\0\0\0\0\0\0\0\u0001d', 'latin1');

  test('messages are found wherever the stream is cut', async () => {
    for (let at = 0; at <= body.length; at++) {
      expect(await read([body.subarray(0, at), body.subarray(at)])).toEqual(['abc', '', 'd']);
    }
    expect(await read([...body].map((byte) => Buffer.from([byte])))).toEqual(['abc', '', 'd']);
  });

  test('messages are refused when they claim too much, break off, or come in one byte each', async () => {
    expect(await read([body], 2)).toEqual([expect.stringContaining('REQUEST_TOO_LARGE')]);
    expect(await read([body.subarray(0, -1)])).toEqual(['abc', '', expect.stringContaining('MALFORMED_REQUEST')]);
    expect(await read([Buffer.from([1, 0, 0, 0, 0])])).toEqual([expect.stringContaining('COMPRESSION_REFUSED')]);
    expect(await read([Buffer.from([4, 0, 0, 0, 0])])).toEqual([expect.stringContaining('MALFORMED_REQUEST')]);
    const head = Buffer.from([0, 0, 0x10, 0, 0]);
    const bytes = Array.from({ length: 100_000 }, () => Buffer.from([0]));
    expect(await read([head, ...bytes], 4_000_000)).toEqual([expect.stringMatching(/MALFORMED_REQUEST.*pieces/)]);
  });
});
