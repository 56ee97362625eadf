import { once } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http2';
import { connect } from 'node:http2';
import { Gauge, Registry } from 'prom-client';
import { expect, onTestFinished, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { serve } from '../serving.ts';

const mib = 1_048_576;

test('a broker whose room for answers is full of unread ones still shows its metrics, in bounded memory', async () => {
  const account = smallAccount({ answers: 2 * mib });
  const answers = account.kind('answers');
  const clock = new FakeClock();
  const metrics = new Registry();
  new Gauge({ name: 'large', help: 'x'.repeat(mib), registers: [metrics] });
  const { httpPort, httpUrl, bugs } = await serve({ account, clock, metrics });
  // Each on a connection of its own, because Node limits what waits on one.
  const unread = async (): Promise<unknown> => {
    const session = connect(`http://127.0.0.1:${httpPort}`, { settings: { initialWindowSize: 0 } });
    session.on('error', () => undefined);
    onTestFinished(() => {
      session.destroy();
    });
    const stream = session.request({ ':path': '/metrics' }).on('error', () => undefined);
    const [answered] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    return answered[':status'];
  };
  for (let count = 0; count < 20; count += 1) {
    expect(await unread()).toBe(200);
    clock.jump(1_000);
  }
  expect(answers.refused).toBeGreaterThan(0);
  expect(answers.bytes).toBeLessThan(6 * mib);
  // Another client reads them at once.
  const page = await fetch(`${httpUrl}/metrics`, { headers: { connection: 'close' } });
  expect([page.status, (await page.text()).length > mib]).toEqual([200, true]);
  await clock.advance(2 * limits.unreadAnswerMs);
  await expect.poll(() => answers.bytes).toBe(0);
  expect(bugs).toEqual([]);
});
