import { connect, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { connectionBytes } from '../../../src/account/kinds.ts';
import { smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { closed } from '../raw-call.ts';
import { serve } from '../serving.ts';

function open(port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined).resume();
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

test('connections beyond those that the broker has memory for are closed at once, on both edges', async () => {
  const account = smallAccount({ connections: 3 * connectionBytes });
  const kind = account.kind('connections');
  const clock = new FakeClock();
  const warnings: object[] = [];
  const log = { error: () => undefined, warn: (fields: object) => warnings.push(fields) };
  const { grpcPort, httpPort } = await serve({ account, clock, log });
  const ports = [grpcPort, httpPort];
  const first = [grpcPort, grpcPort, grpcPort].map(open);
  await expect.poll(() => kind.bytes).toBe(3 * connectionBytes);
  for (const port of [...ports, ...ports]) await closed(open(port));
  // The log is not a place that a client may fill.
  expect(warnings).toEqual([{ refused: 1, connectionsMax: 3 }]);
  expect([kind.bytes, kind.refused]).toEqual([3 * connectionBytes, 4]);
  await clock.advance(60_000);
  await closed(open(grpcPort));
  expect(warnings[1]).toEqual({ refused: 4, connectionsMax: 3 });
  // Some leave, and one is reset.
  first[0]!.end();
  first[1]!.destroy();
  first[2]!.resetAndDestroy();
  await expect.poll(() => kind.bytes).toBe(0);
  const others = [httpPort, httpPort, grpcPort].map(open);
  await expect.poll(() => kind.bytes).toBe(3 * connectionBytes);
  others[0]!.end('GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  others[1]!.resetAndDestroy();
  others[2]!.destroy();
  await expect.poll(() => kind.bytes).toBe(0);
});
