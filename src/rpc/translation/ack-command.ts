import { AckAction, type AckEntry as AckEntryMessage, type AckRequest } from '../../../gen/millrace/v1/broker_pb.js';
import type { AckAction as AckActionName, AckCommand, AckEntry } from '../../broker/commands.ts';
import type { MemberId } from '../../coordinator/group.ts';
import { given, msOr } from '../validation/defaults.ts';

const actions: Readonly<Record<AckAction, AckActionName>> = {
  [AckAction.UNSPECIFIED]: 'ACK',
  [AckAction.ACK]: 'ACK',
  [AckAction.NACK]: 'NACK',
  [AckAction.RELEASE]: 'RELEASE',
};

export function ackCommand(request: AckRequest): AckCommand {
  return {
    group: request.group,
    memberId: request.memberId as MemberId,
    generation: Number(given(request.generation)),
    entries: request.acks.map(ackEntry),
  };
}

function ackEntry(entry: AckEntryMessage): AckEntry {
  return {
    topic: entry.topic,
    partition: given(entry.partition),
    lane: entry.lane ?? null,
    action: actions[entry.action],
    upToOffset: entry.upToOffset === undefined ? null : Number(entry.upToOffset),
    runs: entry.upToOffset === undefined ? runsOf(entry) : null,
    delayMs: msOr(entry.delay, null),
    error: entry.error,
  };
}

function runsOf(entry: AckEntryMessage): number[] {
  const runs = entry.offsets.map((offset) => ({ first: Number(offset), last: Number(offset) }));
  for (const { first, last } of entry.ranges) runs.push({ first: Number(given(first)), last: Number(given(last)) });
  return mergedRuns(runs);
}

/**
 * @returns [first, last, first, last, …], ascending, with neighbouring and overlapping runs merged.
 */
function mergedRuns(runs: { first: number; last: number }[]): number[] {
  const merged: number[] = [];
  for (const { first, last } of runs.sort((a, b) => a.first - b.first)) {
    const end = merged.length - 1;
    if (end > 0 && first <= merged[end]! + 1) merged[end] = Math.max(merged[end]!, last);
    else merged.push(first, last);
  }
  return merged;
}
