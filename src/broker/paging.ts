export interface PageRequest {
  readonly size: number;
  /** The `nextToken` of the page before; empty for the first. */
  readonly token: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Empty at the end. */
  readonly nextToken: string;
}

/**
 * One page of `items`, which are in the order of their keys. The token is the key of the last item
 * of the previous page, so items that come and go between two pages neither repeat nor hide others.
 */
export function pageOf<T, K extends string | number>(
  items: readonly T[],
  keyOf: (item: T) => K,
  request: PageRequest,
): Page<T> {
  const from = request.token === '' ? 0 : items.findIndex((item) => isBehind(keyOf(item), request.token));
  const rest = from < 0 ? [] : items.slice(from);
  const page = rest.slice(0, request.size);
  const last = page.at(-1);
  return { items: page, nextToken: last === undefined || rest.length <= request.size ? '' : String(keyOf(last)) };
}

function isBehind(key: string | number, token: string): boolean {
  return typeof key === 'number' ? key > Number(token) : key > token;
}
