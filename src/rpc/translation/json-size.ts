import { requestTooLarge } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const openList = 0x5b;
const backslash = 0x5c;
const closeList = 0x5d;
const openObject = 0x7b;
const closeObject = 0x7d;

export interface JsonSize {
  /** Entries of all lists. */
  readonly elements: number;
  /** Keys of all objects. */
  readonly keys: number;
}

/**
 * Bounds what `JSON.parse` may build, in one pass over the bytes that makes no object: `{}` of two
 * bytes becomes an object of 64, and the checks of four million lists in each other take seconds.
 * The pass does not check the syntax. Wrong syntax ends in an error of `JSON.parse`.
 * @throws Error that names the limit; Rejection REQUEST_TOO_LARGE
 */
export function checkJsonSize(json: Buffer): JsonSize {
  let depth = 0;
  let elements = 0;
  let keys = 0;
  /** Bit n: level n is a list. */
  let lists = 0;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at] ?? 0;
    if (byte === quote) at = endOfText(json, at + 1);
    else if (byte === openObject || byte === openList) {
      depth += 1;
      if (depth > limits.requestDepthMax) throw new Error(`it nests deeper than ${limits.requestDepthMax} levels`);
      const bit = 1 << (depth - 1);
      lists = byte === openList ? lists | bit : lists & ~bit;
      if (byte === openList) elements += 1;
    } else if (byte === closeObject || byte === closeList) depth = Math.max(depth - 1, 0);
    else if (byte === colon) keys += 1;
    else if (byte === comma && depth > 0 && (lists & (1 << (depth - 1))) !== 0) elements += 1;
    if (elements > limits.jsonElementsMax)
      throw new Error(`its lists have more than ${limits.jsonElementsMax} entries`);
    if (keys > limits.jsonKeysMax) throw new Error(`it has more than ${limits.jsonKeysMax} keys`);
  }
  return { elements, keys };
}

/** The place of the quote that ends the text. */
function endOfText(json: Buffer, start: number): number {
  let at = start;
  for (let byte = json[at]; byte !== quote && byte !== undefined; byte = json[at]) at += byte === backslash ? 2 : 1;
  if (at - start > limits.jsonTextBytesMax) throw requestTooLarge({ bytes: null, bytesMax: limits.publishBytesMax });
  return at;
}
