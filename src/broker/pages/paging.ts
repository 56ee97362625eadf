import { present } from '../../errors/present.ts';
import { limits } from '../../limits/limits.ts';

export interface PageRequest {
  readonly size: number;
  /** The `nextToken` of the page before; empty for the first. */
  readonly token: string;
  /** Bytes of the answer beside the page's entries. Default: 0. */
  readonly besideBytes?: number;
}

/** The page of a client that names neither a size nor a token. */
export const firstPage: PageRequest = { size: limits.pageSizeMax, token: '' };

export interface Page<T> {
  readonly items: readonly T[];
  /** Empty at the end. */
  readonly nextToken: string;
}

type Key = readonly (string | number)[];

/** What a list answer shows. */
interface Listing<T, E> {
  /** In the order of their keys. */
  readonly items: readonly T[];
  /** The place of the item in the order. No text of a key has a tilde. */
  readonly keyOf: (item: T) => Key;
  /** Builds the entry of the answer, which costs far more than the item. */
  readonly entryOf: (item: T) => E;
  /** The most bytes that the entry needs in an answer, in protobuf or JSON. */
  readonly bytesOf: (entry: E) => number;
}

/**
 * Builds one page, which ends at the size that the client wants or at the bytes of a message, and
 * has one entry at least. The token is the key of the last item of the previous page, so items that
 * come and go between two pages neither repeat nor hide others.
 */
export function pageOf<T, E>({ items, keyOf, entryOf, bytesOf }: Listing<T, E>, request: PageRequest): Page<E> {
  const from = request.token === '' ? 0 : firstBehind(items, keyOf, request.token.split('~'));
  const entries: E[] = [];
  let bytes = request.besideBytes ?? 0;
  while (entries.length < request.size && from + entries.length < items.length) {
    const entry = entryOf(itemAt(items, from + entries.length));
    bytes += bytesOf(entry);
    if (bytes > limits.pageBytesMax && entries.length > 0) break;
    entries.push(entry);
  }
  const end = from + entries.length;
  return { items: entries, nextToken: end >= items.length ? '' : keyOf(itemAt(items, end - 1)).join('~') };
}

/** The index of the first item behind the token. Bisects, because a list may have 100,000 items. */
function firstBehind<T>(items: readonly T[], keyOf: (item: T) => Key, token: readonly string[]): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (isBehind(keyOf(itemAt(items, middle)), token)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** No item is behind a token that has a text in the place of a number. */
function isBehind(key: Key, token: readonly string[]): boolean {
  for (const [at, part] of key.entries()) {
    const last = token[at] ?? '';
    if (String(part) !== last) return typeof part === 'number' ? part > Number(last) : part > last;
  }
  return false;
}

function itemAt<T>(items: readonly T[], index: number): T {
  return present(items[index], 'a page lies within its list');
}
