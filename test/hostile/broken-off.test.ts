import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { closed } from '../rpc/raw-call.ts';
import { methodsOfEdge } from './calls.ts';
import { HostileSite } from './hostile-site.ts';

const timeout = 240_000;
let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

const types = ['application/json', 'application/connect+proto', 'application/grpc-web+proto', 'text/plain'];
const verbs = ['POST', 'PUT', 'GET'];

describe('a client that vanishes in the middle of its request', () => {
  test.each(types)('no request that breaks off ends the broker: %s', { timeout }, async (type) => {
    await hostile.attack(async ({ broker }) => {
      for (const verb of verbs) {
        const heads = methodsOfEdge.http.map(
          ({ parent, name }) =>
            `${verb} /${parent.typeName}/${name} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: 50\r\n\r\n{`,
        );
        const gone = heads.map(async (head) => {
          const socket = connect(broker.httpPort, '127.0.0.1');
          const over = closed(socket);
          await once(socket, 'connect');
          // The broker gets the request and the reset together.
          socket.write(head, () => socket.resetAndDestroy());
          await over;
        });
        await Promise.all(gone);
      }
    });
  });

  test.each(['100-continue', '200-ok'])(
    'no stream that expects %s and breaks HTTP/2 at once ends the broker',
    { timeout },
    async (expect) => {
      await hostile.attack(async ({ broker }) => {
        for (const port of [broker.httpPort, broker.grpcPort]) {
          const session = connectHttp2(`http://127.0.0.1:${port}`).on('error', () => undefined);
          const path = '/millrace.v1.BrokerService/Pull';
          const stream = session.request({ ':method': 'POST', ':path': path, expect, 'content-length': '0' });
          stream.on('error', () => undefined).resume();
          // Node ends the connection for these bytes before it serves the stream.
          stream.end(Buffer.alloc(5));
          await new Promise((resolve) => stream.once('close', resolve));
          session.destroy();
        }
      });
    },
  );
});
