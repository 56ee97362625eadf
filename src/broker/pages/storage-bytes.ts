import type { BlockingSession, StoredDrop } from '../../lifecycle/store.ts';
import { limits } from '../../limits/limits.ts';

/**
 * The most bytes that the entries of GetTopicStorage need in an answer, in protobuf or in JSON. The
 * same test holds them that holds those of `entry-bytes.ts`.
 */

interface ShownKeeper {
  readonly subscription: { readonly group: string } | null;
  readonly session: BlockingSession | null;
}

export function storedSegmentBytes(logs: number): number {
  return 256 + logs * 96;
}

export function keptByBytes({ subscription, session }: ShownKeeper): number {
  const texts = session === null ? 0 : textBytes(session.applicationName) + textBytes(session.state ?? '');
  return 400 + (subscription?.group.length ?? 0) + texts;
}

export function segmentDropBytes({ ranges }: Pick<StoredDrop, 'ranges'>): number {
  return 256 + Math.min(ranges.length, limits.droppedRangesMax) * 128;
}

/** A text that is no name, in which JSON may need six bytes for one character. */
function textBytes(text: string): number {
  return Buffer.byteLength(JSON.stringify(text));
}
