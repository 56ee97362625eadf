import type { PlannedDrop, RetentionStore } from '../../../src/lifecycle/store.ts';
import { nextStep } from '../../../src/retention/drop-step.ts';

export const noPressure = { wantsSegment: false, wantsSession: false, missedMs: 0 };
const looksMax = 10;

/** Takes one step with a table. @returns whether the table may need another one now. */
export async function takeStep(store: RetentionStore, drop: PlannedDrop): Promise<boolean> {
  const step = nextStep(await store.table(drop), noPressure);
  switch (step.type) {
    case 'DONE':
      await store.done(drop);
      return true;
    case 'DETACH':
      await store.detach(drop);
      return true;
    case 'DROP':
      await store.drop(drop, step.lockTimeoutMs);
      return true;
    default:
      return false;
  }
}

/** Drops all planned tables that nothing blocks. */
export async function dropAll(store: RetentionStore): Promise<void> {
  const waiting = new Set<string>();
  const nameOf = ({ topicId, segment }: PlannedDrop): string => `${topicId}/${segment}`;
  for (let looks = 0; ; looks++) {
    const drops = (await store.pendingDrops()).filter((drop) => !waiting.has(nameOf(drop)));
    if (drops.length === 0) return;
    for (const drop of drops) {
      let steps = 0;
      while ((await takeStep(store, drop)) && steps < looksMax) steps++;
      // Done, or something blocks it: it is not tried again here.
      waiting.add(nameOf(drop));
    }
  }
}
