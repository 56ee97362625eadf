import type { Assignors } from './assignor.ts';
import { cooperativeSticky } from './cooperative-sticky.ts';
import { range } from './range.ts';
import { roundRobin } from './round-robin.ts';
import { sticky } from './sticky.ts';

export const builtInAssignors: Assignors = new Map([
  ['range', range],
  ['round_robin', roundRobin],
  ['sticky', sticky],
  ['cooperative_sticky', cooperativeSticky],
]);
