import { PassThrough } from 'node:stream';
import { toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { printable, printableLines } from '../../src/errors/printable.ts';
import { malformedRequest } from '../../src/errors/rejections/requests.ts';
import { rpcErrorOf } from '../../src/rpc/edge/errors.ts';
import { Output } from '../../src/server/output.ts';

/** C0, DEL, C1, and the controls of the direction of a text. */
const controls = [
  ...Array.from({ length: 0x20 }, (_, code) => code),
  ...Array.from({ length: 0x21 }, (_, at) => 0x7f + at),
  ...Array.from({ length: 5 }, (_, at) => 0x202a + at),
  ...Array.from({ length: 4 }, (_, at) => 0x2066 + at),
].map((code) => String.fromCharCode(code));

test('no control character of a client reaches a terminal, in a log line, at the start, or in an error', () => {
  const stream = Object.assign(new PassThrough(), { fd: -1, isTTY: false });
  const output = new Output(stream);
  for (const control of controls) {
    const text = `a${control}[2Jb`;
    expect(printable(text)).toBe('a [2Jb');
    const { message, details } = rpcErrorOf(malformedRequest(text, text), () => '');
    const encoded = details.map(({ desc, value }) => Buffer.from(toBinary(desc, value)).toString());
    expect([message, ...encoded].filter((one) => one.includes(`a${control}`))).toEqual([]);
    output.write(`${text}\n`);
  }
  const written = (stream.read() as Buffer).toString();
  for (const control of controls) if (control !== '\n') expect(written).not.toContain(control);
});

test('other characters and the ends of lines stay as they are', () => {
  expect(printableLines('größer\n  日本 «»\n\n')).toBe('größer\n  日本 «»\n\n');
});
