import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { tellVersion } from '../../../src/rpc/requests/first-bytes.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { serve } from '../serving.ts';

const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

/**
 * The detected protocol of a connection that sends these packets, and the bytes that the server
 * then reads.
 */
async function told(packets: readonly string[]): Promise<readonly [isHttp2: boolean, rest: string]> {
  const socket = new PassThrough();
  const decided = new Promise<boolean>((resolve) => {
    tellVersion(socket as unknown as Socket, new FakeClock(), 1_000, resolve);
  });
  for (const packet of packets) socket.write(packet);
  const isHttp2 = await decided;
  socket.end();
  return [isHttp2, Buffer.concat(await socket.toArray()).toString()];
}

describe('HTTP/2 is told from HTTP/1.1 however the first bytes are split into packets', () => {
  test.each<[boolean, readonly string[]]>([
    [true, [preface]],
    [true, ['P', 'R', 'I', ' ', preface.slice(4)]],
    [true, ['PRI', preface.slice(3)]],
    [false, ['GET / HTTP/1.1\r\n\r\n']],
    [false, ['G', 'ET / HTTP/1.1\r\n\r\n']],
    [false, ['P', 'OST / HTTP/1.1\r\n\r\n']],
    [false, ['PR', 'OPFIND / HTTP/1.1\r\n\r\n']],
    [false, ['PRI', 'NT / HTTP/1.1\r\n\r\n']],
  ])('HTTP/2: %s for %j', async (isHttp2, packets) => {
    expect(await told(packets)).toEqual([isHttp2, packets.join('')]);
  });
});

test('a connection that never tells what it speaks is dropped after its time, however slowly it sends', async () => {
  const clock = new FakeClock();
  const socket = new PassThrough();
  tellVersion(socket as unknown as Socket, clock, 1_000, () => {
    throw new Error('it has told nothing');
  });
  socket.write('P');
  await clock.advance(600);
  socket.write('R');
  await clock.advance(399);
  expect(socket.destroyed).toBe(false);
  await clock.advance(1);
  expect(socket.destroyed).toBe(true);
});

test('a client of HTTP/2 that sends its preface byte by byte is served', async () => {
  const { httpPort } = await serve();
  const socket = connect({ port: httpPort, host: '127.0.0.1', noDelay: true });
  onTestFinished(() => {
    socket.destroy();
  });
  const emptySettings = '\0\0\0\x04\0\0\0\0\0';
  for (const byte of preface + emptySettings) {
    await new Promise((sent) => socket.write(Buffer.from(byte, 'latin1'), sent));
  }
  const [answer] = (await once(socket, 'data')) as [Buffer];
  // The type of the first frame: SETTINGS.
  expect([answer[3], answer.toString('latin1').startsWith('HTTP/1.1')]).toEqual([4, false]);
});
