import { expect, test } from 'vitest';
import { delay } from '../../../bench/support/timing.ts';
import { HostileSite } from '../hostile-site.ts';

const timeout = 240_000;
const standsMs = 800;

test(
  'an attack after which small calls wait for most of a second is not reported as harmless',
  { timeout },
  async () => {
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
  },
);
