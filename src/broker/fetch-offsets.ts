import type { FetchedOffset } from '../delivery/ports/offsets.ts';
import { limits } from '../limits/limits.ts';
import type { Page, PageRequest } from './paging.ts';
import { present } from '../errors/present.ts';

/** The bytes of an entry in a message without its texts: tags, numbers and lengths. */
const entryBytes = 64;

/**
 * One page of the fetched offsets, within the limit of a message, because notes may be long. The
 * token counts the entries that the caller named. Without named entries the token names the last
 * one, because offsets may come and go between two pages.
 */
export function fetchedPage(all: readonly FetchedOffset[], named: boolean, request: PageRequest): Page<FetchedOffset> {
  const from = request.token === '' ? 0 : named ? counted(request.token) : firstBehind(all, request.token);
  let bytes = 0;
  let end = from;
  while (end < all.length && end - from < request.size) {
    bytes += bytesOf(present(all[end], 'the page ends within what was fetched'));
    if (bytes > limits.messageBytesMax && end > from) break;
    end++;
  }
  if (end >= all.length) return { items: all.slice(from), nextToken: '' };
  const { topic, partition, lane } = present(all[end - 1], 'a page that another one follows has an entry');
  return { items: all.slice(from, end), nextToken: named ? String(end) : `${partition}~${lane}~${topic}` };
}

function bytesOf({ topic, committed }: FetchedOffset): number {
  return entryBytes + topic.length + (committed === null ? 0 : Buffer.byteLength(committed.metadata));
}

/** A token that no page ended with leads to the end. */
function counted(token: string): number {
  return /^\d+$/.test(token) ? Number(token) : Infinity;
}

function firstBehind(all: readonly FetchedOffset[], token: string): number {
  const [lastPartition = '', lastLane = '', lastTopic = ''] = token.split('~');
  const at = all.findIndex(({ topic, partition, lane }) => {
    if (topic !== lastTopic) return topic > lastTopic;
    return partition === Number(lastPartition) ? lane > Number(lastLane) : partition > Number(lastPartition);
  });
  return at < 0 ? all.length : at;
}
