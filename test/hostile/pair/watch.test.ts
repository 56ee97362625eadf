import { expect, test } from 'vitest';
import { delay } from '../../../bench/support/timing.ts';
import { HostileSite } from '../hostile-site.ts';

const timeout = 240_000;
/** Longer than a busy machine keeps a small call in quiet, which the rule adds to. */
const standsMs = 3_000;

test('an attack after which small calls wait for seconds is not reported as harmless', { timeout }, async () => {
  const hostile = await HostileSite.open();
  try {
    const attack = hostile.attack(async ({ broker }) => {
      broker.kill('SIGSTOP');
      await delay(standsMs);
      broker.kill('SIGCONT');
    });
    await expect(attack).rejects.toThrow(/a small call took \d+ ms/);
  } finally {
    await hostile.close();
  }
});
