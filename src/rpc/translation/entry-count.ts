import { ScalarType, type DescField, type DescMessage } from '@bufbuild/protobuf';
import { invalidField } from '../../errors/rejections/requests.ts';
import { limits } from '../../limits/limits.ts';
import { RequestReader } from '../../wire/request-reader.ts';

/**
 * Counts the entries of lists and maps in the bytes of a request before the decoder builds them: an
 * entry of two bytes becomes an object of 170. The rules of the fields check the smaller limits
 * later. One walk makes no object for an entry, and reads the same fields as the decoder, because
 * it rejects a known field with a wrong wire type.
 */

/** Lists of more than `requestEntriesMax` entries. The default also covers a list of a new call. */
const entriesMax: ReadonlyMap<string, number> = new Map([
  ['millrace.v1.AssignmentPlan.members', limits.planEntriesMax],
  ['millrace.v1.MemberAssignment.partitions', limits.planEntriesMax],
  ['millrace.v1.StartPosition.Offsets.partitions', limits.startPartitionsMax],
]);

export interface RequestCount {
  /** The entries of all lists and maps. */
  readonly entries: number;
  /** The messages, those in lists and maps too. */
  readonly messages: number;
  /** The bytes of texts, and of other fields that are no messages. */
  readonly textBytes: number;
}

/**
 * @throws Rejection INVALID_FIELD if a list has more entries than its limit in all of the request;
 * MALFORMED_REQUEST if the bytes are not exact protobuf
 */
export function countEntries(desc: DescMessage, request: Buffer): RequestCount {
  const { root, lists } = planOf(desc);
  const count = new EntryCount(request, lists);
  count.message(root, request.length, 1);
  return count;
}

/** The most entries that all lists of this field in one request may have. */
function entriesMaxOf({ parent, name }: DescField): number {
  return entriesMax.get(`${parent.typeName}.${name}`) ?? limits.requestEntriesMax;
}

interface FieldPlan {
  readonly name: string;
  readonly wireType: number;
  /** Of the entries of a list of numbers, which may lie packed in one field; null: other fields. */
  readonly packedType: number | null;
  /** The place of its count; -1: neither a list nor a map. */
  readonly list: number;
  readonly max: number;
  readonly message: MessagePlan | null;
}

/** The fields of a message by their numbers. */
type MessagePlan = (FieldPlan | undefined)[];

interface RequestPlan {
  readonly root: MessagePlan;
  /** Number of fields that are lists or maps. */
  readonly lists: number;
}

const plans = new Map<DescMessage, RequestPlan>();

function planOf(desc: DescMessage): RequestPlan {
  let plan = plans.get(desc);
  if (plan === undefined) {
    const compiler = new PlanCompiler();
    plan = { root: compiler.message(desc), lists: compiler.lists };
    plans.set(desc, plan);
  }
  return plan;
}

class PlanCompiler {
  lists = 0;
  /** A message type that contains itself refers to its own plan. */
  readonly #known = new Map<DescMessage, MessagePlan>();

  message(desc: DescMessage): MessagePlan {
    const known = this.#known.get(desc);
    if (known !== undefined) return known;
    const plan: MessagePlan = [];
    this.#known.set(desc, plan);
    for (const field of desc.fields) plan[field.number] = this.#field(field);
    return plan;
  }

  #field(field: DescField): FieldPlan {
    const isMany = field.fieldKind === 'list' || field.fieldKind === 'map';
    const wireType = field.fieldKind === 'map' ? lengthType : wireTypeOf(field);
    return {
      name: field.name,
      wireType,
      packedType: field.fieldKind === 'list' && wireType !== lengthType ? wireType : null,
      list: isMany ? this.lists++ : -1,
      max: isMany ? entriesMaxOf(field) : 0,
      message: field.message === undefined ? null : this.#contentOf(field, field.message),
    };
  }

  /** An entry of a map is a message with the value in field 2. */
  #contentOf(field: DescField, desc: DescMessage): MessagePlan {
    const message = this.message(desc);
    if (field.fieldKind !== 'map') return message;
    const value = { name: 'value', wireType: lengthType, packedType: null, list: -1, max: 0, message };
    return [undefined, undefined, value];
  }
}

const varintType = 0;
const fixed64Type = 1;
const lengthType = 2;
const fixed32Type = 5;

function wireTypeOf({ scalar, message }: DescField): number {
  if (message !== undefined || scalar === ScalarType.STRING || scalar === ScalarType.BYTES) return lengthType;
  if (scalar === ScalarType.DOUBLE || scalar === ScalarType.FIXED64 || scalar === ScalarType.SFIXED64)
    return fixed64Type;
  if (scalar === ScalarType.FLOAT || scalar === ScalarType.FIXED32 || scalar === ScalarType.SFIXED32)
    return fixed32Type;
  return varintType;
}

class EntryCount implements RequestCount {
  readonly #reader: RequestReader;
  /** Of each list in all of the request. */
  readonly #counts: number[];
  entries = 0;
  messages = 0;
  textBytes = 0;

  constructor(request: Buffer, lists: number) {
    this.#reader = new RequestReader(request);
    // A typed array costs more than the walk of a small request.
    this.#counts = new Array<number>(lists).fill(0);
  }

  message(plan: MessagePlan, end: number, depth: number): void {
    const reader = this.#reader;
    this.messages += 1;
    if (depth > limits.requestDepthMax) reader.fail(`nests messages deeper than ${limits.requestDepthMax} levels`);
    while (reader.at < end) {
      const tag = reader.tag(end);
      const field = plan[tag >>> 3];
      if (field === undefined) reader.skipUnknown(tag, 0, end);
      else this.#field(field, tag, end, depth);
    }
  }

  #field(field: FieldPlan, tag: number, end: number, depth: number): void {
    const reader = this.#reader;
    const wireType = tag & 7;
    if (wireType === lengthType && field.packedType !== null) this.#packed(field, field.packedType, end);
    else if (wireType !== field.wireType) reader.fail(`has ${field.name} with the wrong wire type ${wireType}`);
    else {
      if (field.list !== -1) this.#count(field, 1);
      if (field.message !== null) this.message(field.message, reader.length(end), depth + 1);
      else this.#skip(tag, end);
    }
  }

  #skip(tag: number, end: number): void {
    const { at } = this.#reader;
    this.#reader.skip(tag, end);
    this.textBytes += this.#reader.at - at;
  }

  #packed(field: FieldPlan, entryType: number, end: number): void {
    const reader = this.#reader;
    const contentEnd = reader.length(end);
    const bytes = contentEnd - reader.at;
    if (entryType === varintType) this.#count(field, varintsIn(reader.buffer, reader.at, contentEnd));
    else this.#count(field, Math.ceil(bytes / (entryType === fixed64Type ? 8 : 4)));
    reader.at = contentEnd;
  }

  #count({ name, list, max }: FieldPlan, entries: number): void {
    const count = (this.#counts[list] ?? 0) + entries;
    this.#counts[list] = count;
    this.entries += entries;
    if (count > max) throw invalidField(name, `has more than ${max} entries in all of the request`);
  }
}

function varintsIn(buffer: Buffer, start: number, end: number): number {
  let count = 0;
  for (const byte of buffer.subarray(start, end)) if (byte < 0x80) count += 1;
  return count;
}
