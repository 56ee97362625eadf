import { once } from 'node:events';
import { constants } from 'node:http2';
import { expect, test } from 'vitest';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { contentTypeOf, edges, pathOf } from '../../hostile/calls.ts';
import { bareConnection, callHeaders, frame } from '../../hostile/frames/frames.ts';
import { closed, rawSession } from '../raw-call.ts';
import { serve } from '../serving.ts';

const { pull } = BrokerService.method;
const cancel = Buffer.from([0, 0, 0, constants.NGHTTP2_CANCEL]);

/** The code of the last GOAWAY in what a server has sent; frames of other types are skipped. */
function goawayCode(sent: Buffer): number | null {
  let code: number | null = null;
  for (let at = 0; at + 9 <= sent.length; at += 9 + sent.readUIntBE(at, 3)) {
    if (sent[at + 3] === 7) code = sent.readUInt32BE(at + 13);
  }
  return code;
}

test.each(edges)(
  'over %s a client that resets each call at once is told to be calm, and most of its calls are never begun',
  { timeout: 60_000 },
  async (edge) => {
    const account = roomyAccount();
    const warnings: object[] = [];
    const bugs: object[] = [];
    const log = {
      error: (entry: object) => bugs.push(entry),
      warn: (fields: object) => warnings.push(fields),
    };
    const { broker, grpcPort, httpPort } = await serve({ account, log });
    const port = edge === 'grpc' ? grpcPort : httpPort;
    const other = rawSession(port);
    await once(other, 'remoteSettings');
    const socket = await bareConnection(port);
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    const over = closed(socket);
    const headers = callHeaders(pathOf(pull), contentTypeOf(edge, pull));
    const calls = Array.from({ length: 4 * limits.earlyResetBurst }, (_, index) => {
      const stream = 2 * index + 1;
      return Buffer.concat([frame(1, 5, stream, headers), frame(3, 0, stream, cancel)]);
    });
    socket.write(Buffer.concat(calls));
    await over;
    expect(goawayCode(Buffer.concat(received))).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    expect(warnings).toEqual([{ connections: 1, peer: '127.0.0.1' }]);
    expect(broker.calls.length).toBeLessThan(limits.earlyResetBurst);
    expect([bugs, other.destroyed]).toEqual([[], false]);
    await expect.poll(() => account.kind('streams').bytes).toBe(0);
  },
);
