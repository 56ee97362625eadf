import { beforeAll, beforeEach, expect } from 'vitest';
import { describeOpen, noteOpen, openNow, stillOpen } from './open.ts';

/**
 * After each test, and at the end of each file, nothing is left open that was not open before. What
 * a file shares among its tests (a fixture of `beforeAll`) may open more in each of them, so such a
 * file is checked at its end only. So are tests that run beside each other.
 */

noteOpen();
const beforeFile = new Set(openNow());

// Vitest runs clean-ups in the reverse order of their registration. These are registered before
// those of the file, so they run after them.
beforeAll(() => async () => {
  await expectNothingLeft(beforeFile);
});

beforeEach(({ task, onTestFinished }) => {
  if (task.concurrent === true) return;
  const before = new Set(openNow());
  if ([...before].some((one) => !beforeFile.has(one))) return;
  onTestFinished(async () => {
    await expectNothingLeft(before);
  });
});

async function expectNothingLeft(before: ReadonlySet<object>): Promise<void> {
  const left = await stillOpen(before);
  if (left.length > 0) expect.fail(`left open:\n${left.map(describeOpen).join('\n')}`);
}
