import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { HostileSite } from './hostile-site.ts';

let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
});
afterEach(async () => {
  await hostile.site.expectAllThere();
});
afterAll(async () => {
  await hostile.close();
});

const path = '/millrace.v1.BrokerService/Ack';

describe('a request to the HTTP port in very many pieces', () => {
  test('a request of 50,000 HTTP/2 frames of one byte is refused', async () => {
    const answer = await hostile.attack(async ({ broker }) => {
      const session = connectHttp2(`http://127.0.0.1:${broker.httpPort}`);
      const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/proto' });
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      for (let count = 0; count < 50_000; count++) stream.write(Buffer.from([0]));
      stream.end();
      await once(stream, 'close');
      session.close();
      return Buffer.concat(chunks).toString();
    });
    expect(answer).toContain('MALFORMED_REQUEST');
  });
});
