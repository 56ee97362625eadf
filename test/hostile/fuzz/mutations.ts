import fc from 'fast-check';
import { mutated, mutations, type Mutation } from '../../wire/mutation.ts';
import type { Json } from './messages.ts';
import type { CaseRandom } from './random.ts';

const pageCases = 500;
const mutationsMax = 4;

/**
 * Mutations of bytes for each case. They are drawn by the page, because the set-up of one draw
 * costs more than a request.
 */
export class MutationBook {
  readonly #seed: number;
  readonly #pages = new Map<number, readonly Mutation[]>();

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** The bytes with 0 to 4 mutations, which follow from the index of the case. */
  mutate(bytes: Buffer, index: number, random: CaseRandom): Buffer {
    const page = this.#page(Math.floor(index / pageCases));
    const first = (index % pageCases) * mutationsMax;
    return page.slice(first, first + random.int(mutationsMax + 1)).reduce(mutated, bytes);
  }

  #page(number: number): readonly Mutation[] {
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = fc.sample(mutations, { seed: this.#seed + number, numRuns: pageCases * mutationsMax });
      this.#pages.set(number, page);
      this.#pages.delete(number - 2);
    }
    return page;
  }
}

const odd: readonly Json[] = [
  null,
  true,
  [],
  {},
  [[[]]],
  [null],
  { a: { b: {} } },
  -1,
  1.5,
  1e308,
  '1e3',
  '0x10',
  '\ud800',
  '\u0000',
  'x'.repeat(2_000),
  'AAA=',
  '%%%',
];

/** The JSON text of a message, in which values are replaced, or fields are added or repeated. */
export function oddJson(message: Json, random: CaseRandom): string {
  const wrong = random.chance(0.5) ? replaced(message, random) : message;
  const text = JSON.stringify(wrong);
  if (!text.startsWith('{') || !random.chance(0.2)) return text;
  const extra = random.pick(['"nothing":1', '"__proto__":{}', '"topic":"orders"', '"":0', '"a":[{},{}]', '"k":nul']);
  return `{${extra}${text === '{}' ? '' : ','}${text.slice(1)}`;
}

/** Replaces one value somewhere in the message. */
function replaced(value: Json, random: CaseRandom): Json {
  if (value === null || typeof value !== 'object' || random.chance(0.2)) return random.pick(odd);
  if (Array.isArray(value)) {
    const at = random.int(value.length + 1);
    return [...(value as Json[]).slice(0, at), replaced((value as Json[])[at] ?? null, random)];
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return random.pick(odd);
  const [name, old] = random.pick(entries);
  return { ...value, [name]: replaced(old, random) };
}
