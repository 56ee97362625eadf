import type { Assignor } from './assignor.ts';
import { sticky } from './sticky.ts';

/**
 * Sticky, under the name that clients of Kafka know. There the two differ in how a group gets to its target: with "sticky"
 * everybody stops and gives back everything, with "cooperative-sticky" only what moves is given back. Here the group does
 * the second with every assignor (SPEC.md, invariant 3), so nothing is left to differ; the name is there so that a client
 * which asks for it need not be told otherwise.
 */
export const cooperativeSticky: Assignor = sticky;
