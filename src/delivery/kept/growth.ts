import { brokerFull } from '../../errors/rejections/broker.ts';

/**
 * Returns false while memory is nearly full. Groups, members, cursors and logs must not grow then.
 */
export type MayGrow = () => boolean;

/**
 * Call this before you create a group, a member, a cursor or a log. A broker that runs out of
 * memory ends, and its successor would load the same state and end too. @throws Rejection
 * BROKER_FULL
 */
export function refuseUnlessMayGrow(mayGrow: MayGrow): void {
  if (mayGrow()) return;
  throw brokerFull({ kind: null, bytesMax: null });
}
