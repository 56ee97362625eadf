import { test } from 'vitest';
import { runSeeds, timeoutMs } from './seeds.ts';

test(
  'no seed of this part loses a confirmed record, repeats an acked one, or keeps a group from all records',
  () => runSeeds(2),
  timeoutMs,
);
