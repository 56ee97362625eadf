import type { Assignor } from './assignor.ts';
import { sticky } from './sticky.ts';

/**
 * Sticky, under the name that clients of Kafka know. In Kafka the two differ in the way to the
 * target: with "sticky" every member stops and gives back everything, with "cooperative-sticky"
 * only the partitions that move. Here every assignor works the second way (SPEC.md, invariant 3).
 */
export const cooperativeSticky: Assignor = sticky;
