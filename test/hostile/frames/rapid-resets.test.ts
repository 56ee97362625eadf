import { connect, constants } from 'node:http2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { closed } from '../../rpc/raw-call.ts';
import { contentTypeOf, edges, pathOf, portOf, type EdgeName } from '../calls.ts';
import { HostileSite } from '../hostile-site.ts';
import { sized } from '../sizes.ts';
import { bareConnection, frame, sent, tabledCallHeaders } from './frames.ts';

const timeout = 600_000;
const { pull } = BrokerService.method;
const cancel = Buffer.from([0, 0, 0, constants.NGHTTP2_CANCEL]);
const resetsOfEach = limits.earlyResetBurst / 2;
const connectionsAtOnce = 20;
let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

/** Opens and resets calls, fewer than one connection may; the table makes each of 35 bytes. */
async function resetMany(port: number, edge: EdgeName): Promise<void> {
  const socket = await bareConnection(port);
  const over = closed(socket.resume());
  const { first, next } = tabledCallHeaders(pathOf(pull), contentTypeOf(edge, pull));
  const calls = Array.from({ length: resetsOfEach }, (_, index) => {
    const stream = 2 * index + 1;
    return Buffer.concat([frame(1, 5, stream, index === 0 ? first : next), frame(3, 0, stream, cancel)]);
  });
  await Promise.race([over, sent(socket, Buffer.concat(calls))]);
  socket.end();
  await over;
}

test.each(edges)(
  'connections to %s that each reset fewer calls than one may do not keep others waiting together',
  { timeout },
  async (edge) => {
    await hostile.attack(async (site) => {
      const port = portOf(site.broker, edge);
      const gateway = connect(`http://127.0.0.1:${port}`).on('error', () => undefined);
      for (let round = 0; round < sized(5, 50); round += 1) {
        await Promise.all(Array.from({ length: connectionsAtOnce }, () => resetMany(port, edge)));
      }
      const calm = site.broker.output().includes('reset them at once');
      expect([calm, gateway.destroyed]).toEqual([true, false]);
      gateway.destroy();
    });
  },
);
