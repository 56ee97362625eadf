import { test } from 'vitest';
import { runSeeds, timeoutMs } from './seeds.ts';

test(
  'whatever fails, nothing confirmed is lost and nothing acked comes again; and then everything comes to everybody',
  () => runSeeds(0),
  timeoutMs,
);
