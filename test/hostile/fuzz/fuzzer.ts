import type { EdgeName } from '../calls.ts';
import { Exchanges, type Answer, type Exchange } from './exchange.ts';
import { complaintOf } from './foreseen.ts';
import { headerCase } from './header-cases.ts';
import { jsonCase, protobufCase, type Sources } from './message-cases.ts';
import { Messages } from './messages.ts';
import { MutationBook } from './mutations.ts';
import { CaseRandom } from './random.ts';
import { framesCase, http1Case, type RawCase } from './raw-cases.ts';
import { sendRaw } from './raw-exchange.ts';
import type { FuzzSite } from './site.ts';
import { Turns } from './turns.ts';

export type GeneratorName = 'protobuf' | 'json' | 'headers' | 'http1' | 'frames';

export interface FuzzOptions {
  readonly seed: number;
  /** The case to begin with. */
  readonly first: number;
  /** Whether to go on, after so many requests. */
  readonly goesOn: (requests: number) => boolean;
  /** Cases under way at once. */
  readonly atOnce: number;
  /** Those that make the cases; a generator that is named twice makes twice as many. */
  readonly generators: readonly GeneratorName[];
  readonly onProgress: (requests: number) => void;
  /** Called with each of `complaints` at once, because a run may not come to its end. */
  readonly onComplaint: (text: string) => void;
  /** Shows each case before it is sent. */
  readonly show: ((text: string) => void) | null;
}

export interface FuzzResult {
  readonly requests: number;
  readonly cases: number;
  /** How often each answer came, by generator. */
  readonly answers: ReadonlyMap<string, number>;
  /** Cases whose answer is not foreseen, each with its index. */
  readonly complaints: readonly string[];
}

/** What a case sends: one exchange of HTTP/2, or the bytes of a connection. */
export type Case =
  | { readonly generator: 'protobuf' | 'json' | 'headers'; readonly exchange: Exchange }
  | { readonly generator: 'http1' | 'frames'; readonly raw: RawCase };

export const allGenerators: readonly GeneratorName[] = [
  'protobuf',
  'protobuf',
  'json',
  'json',
  'headers',
  'http1',
  'frames',
];
/** So many kinds of complaints end the run, which lists so many cases of each kind. */
const kindsMax = 20;
const casesOfKindMax = 3;
/** Topics, groups and members that the cases made are removed after so many cases. */
const tidiedEvery = 4_000;

/** Sends the cases of a seed, one after the other or some at once, and judges every answer. */
export class Fuzzer {
  readonly #o: FuzzOptions;
  readonly #site: FuzzSite;
  readonly #sources: Sources;
  readonly #exchanges: Exchanges;
  readonly #answers = new Map<string, number>();
  readonly #turns: Turns;
  readonly #complaints: string[] = [];
  /** How often each kind of complaint came. */
  readonly #kinds = new Map<string, number>();
  #next: number;
  #requests = 0;
  #tidying: Promise<void> | null = null;

  constructor(site: FuzzSite, options: FuzzOptions) {
    this.#o = options;
    this.#site = site;
    this.#next = options.first;
    this.#sources = { messages: new Messages(site.words), book: new MutationBook(options.seed) };
    this.#turns = new Turns(site.ports.http);
    this.#exchanges = new Exchanges(site.ports, this.#turns);
  }

  async run(): Promise<FuzzResult> {
    await Promise.all(Array.from({ length: this.#o.atOnce }, () => this.#work()));
    this.#exchanges.close();
    this.#turns.close();
    const cases = this.#next - this.#o.first;
    return { requests: this.#requests, cases, answers: this.#answers, complaints: this.#complaints };
  }

  async #work(): Promise<void> {
    while (this.#o.goesOn(this.#requests) && this.#kinds.size < kindsMax) {
      const index = this.#next;
      this.#next += 1;
      if (index > this.#o.first && index % tidiedEvery === 0) {
        this.#tidying = this.#site.tidy();
        await this.#tidying;
        this.#tidying = null;
      }
      await this.#tidying;
      await this.#try(index);
      this.#o.onProgress(this.#requests);
    }
  }

  async #try(index: number): Promise<void> {
    const tried = caseOf(this.#o.generators, this.#sources, index, new CaseRandom(this.#o.seed, index));
    this.#o.show?.(describe(tried, index));
    const isRaw = 'raw' in tried;
    const answers = isRaw
      ? await sendRaw(tried.raw, this.#site.ports, this.#turns)
      : [await this.#exchanges.send(tried.exchange)];
    this.#requests += isRaw ? tried.raw.requests : 1;
    for (const answer of answers) {
      this.#count(tried.generator, answer);
      const complaint = complaintOf(tried, answer);
      this.#o.show?.(`  answer: ${JSON.stringify(answer)}`);
      if (complaint !== null) this.#complain(complaint, tried, index);
    }
  }

  #complain(complaint: string, tried: Case, index: number): void {
    const kind = `${tried.generator}: ${complaint.replace(/\d+/g, '#')}`;
    const count = (this.#kinds.get(kind) ?? 0) + 1;
    this.#kinds.set(kind, count);
    if (count > casesOfKindMax) return;
    const text = `${complaint}\n  ${describe(tried, index)}`;
    this.#complaints.push(text);
    this.#o.onComplaint(text);
  }

  #count(generator: GeneratorName, { ended, httpStatus, code, reason }: Answer): void {
    const name = `${generator}: ${ended === 'answered' ? (reason ?? code ?? `HTTP ${httpStatus}`) : ended}`;
    this.#answers.set(name, (this.#answers.get(name) ?? 0) + 1);
  }
}

function caseOf(generators: readonly GeneratorName[], sources: Sources, index: number, random: CaseRandom): Case {
  const generator = random.pick(generators);
  switch (generator) {
    case 'protobuf':
      return { generator, exchange: protobufCase(sources, index, random) };
    case 'json':
      return { generator, exchange: jsonCase(sources, index, random) };
    case 'headers':
      return { generator, exchange: headerCase(sources, index, random) };
    case 'http1':
      return { generator, raw: http1Case(sources, index, random) };
    case 'frames':
      return { generator, raw: framesCase(sources, index, random) };
  }
}

function describe(tried: Case, index: number): string {
  const isRaw = 'raw' in tried;
  const edge: EdgeName = isRaw ? tried.raw.edge : tried.exchange.edge;
  const bytes = isRaw ? tried.raw.bytes : Buffer.concat(tried.exchange.pieces);
  const headers = isRaw ? '' : ` ${JSON.stringify(tried.exchange.headers)}`;
  const text =
    tried.generator === 'http1' || tried.generator === 'json' ? bytes.toString('latin1') : bytes.toString('hex');
  return `case ${index}, ${tried.generator} to ${edge}${headers}, ${bytes.length} bytes: ${JSON.stringify(text)}`;
}
