import type { Assignor, AssignorName } from './assignor.ts';
import { range } from './range.ts';
import { roundRobin } from './round-robin.ts';
import { sticky } from './sticky.ts';

export const builtInAssignors: Readonly<Record<AssignorName, Assignor>> = { range, round_robin: roundRobin, sticky };
