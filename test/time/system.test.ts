import { expect, test, vi } from 'vitest';
import { systemClock } from '../../src/time/system.ts';

test.each([2 ** 31, 30 * 86_400_000, Infinity])('a timer for %d ms does not fire at once', async (ms) => {
  let fired = false;
  const cancel = systemClock.after(ms, () => {
    fired = true;
  });
  await new Promise<void>((resume) => {
    systemClock.after(20, resume);
  });
  cancel();
  expect(fired).toBe(false);
});

test('a timer for a time that has passed fires soon, without a warning', async () => {
  const warn = vi.spyOn(process, 'emitWarning');
  await new Promise<void>((resume) => {
    systemClock.after(-0.2, resume);
  });
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});
