import { ScalarType, type DescEnum, type DescField, type DescMessage } from '@bufbuild/protobuf';
import type { CaseRandom } from './random.ts';

/** A message in the JSON mapping of protobuf, from which both formats are made. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/**
 * What stands in fields of these names in most requests, so that they meet something that exists.
 */
export type Words = Readonly<Record<string, readonly Json[]>>;

const depthMax = 6;
const entriesMax = 3;
const knownWord = 0.9;
const isSet = 0.75;

const texts = ['', 'a', 'x'.repeat(300), 'ü', '\u0000', '\u0085', '\u202e', '🙂', ' ', 'a b', '../..', "'; --"];
const int32s = [0, 0, 0, 1, 2, 3, 100, -1, 1_000, 10_001, 2_147_483_647, -2_147_483_648];
const int64s = ['0', '0', '1', '2', '5', '100', '-1', '9007199254740992', '9223372036854775807'];
const durations = ['0s', '1s', '10s', '30s', '60s', '3600s', '0.001s', '-1s', '315576000000s', '0.000000001s'];
/** Of all calls that have one. */
const masks = [
  ...['description', 'description,partitions', 'name', ''],
  ...['retention', 'retention.afterCompletion,zeroSubscriptions', 'retention.keepForever', 'retention.nothing'],
  ...['zeroSubscriptions.keepFor', 'zeroSubscriptions.refusePublish'],
];
const timestamps = ['1970-01-01T00:00:00Z', '2026-01-01T00:00:00.5Z', '9999-12-31T23:59:59Z', '0001-01-01T00:00:00Z'];

/** Messages of a type by reflection, most of them valid. */
export class Messages {
  readonly #words: Words;

  constructor(words: Words) {
    this.#words = words;
  }

  message(desc: DescMessage, random: CaseRandom, depth = 0): Json {
    switch (desc.typeName) {
      case 'google.protobuf.Duration':
        return random.pick(durations);
      case 'google.protobuf.Timestamp':
        return random.pick(timestamps);
      case 'google.protobuf.FieldMask':
        return random.pick(masks);
      default:
        return this.#fields(desc, random, depth);
    }
  }

  #fields(desc: DescMessage, random: CaseRandom, depth: number): Json {
    const message: Record<string, Json> = {};
    for (const member of desc.members) {
      if (!random.chance(isSet)) continue;
      const field = member.kind === 'oneof' ? random.pick(member.fields) : member;
      if (depth >= depthMax && field.message !== undefined) continue;
      message[field.jsonName] = this.#field(field, random, depth);
    }
    return message;
  }

  #field(field: DescField, random: CaseRandom, depth: number): Json {
    const count = random.int(entriesMax + 1);
    if (field.fieldKind === 'list') {
      return Array.from({ length: count }, () => this.#value(field, random, depth));
    }
    if (field.fieldKind === 'map') {
      const entry = (): [string, Json] => [random.pick(texts), this.#value(field, random, depth)];
      return Object.fromEntries(Array.from({ length: count }, entry));
    }
    return this.#value(field, random, depth);
  }

  #value(field: DescField, random: CaseRandom, depth: number): Json {
    if (field.message !== undefined) return this.message(field.message, random, depth + 1);
    if (field.enum !== undefined) return enumValue(field.enum, random);
    const words = this.#words[field.name];
    if (words !== undefined && words.length > 0 && random.chance(knownWord)) return random.pick(words);
    return scalarValue(field.scalar, random);
  }
}

function enumValue({ values }: DescEnum, random: CaseRandom): Json {
  return random.chance(0.95) ? random.pick(values).name : random.pick([-1, 99, 2_147_483_647]);
}

function scalarValue(scalar: ScalarType | undefined, random: CaseRandom): Json {
  switch (scalar) {
    case ScalarType.BOOL:
      return random.chance(0.5);
    case ScalarType.BYTES:
      return Buffer.alloc(random.int(60), random.int(256)).toString('base64');
    case ScalarType.STRING:
      return random.pick(texts);
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return random.pick(int64s);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return random.pick(int64s.filter((text) => !text.startsWith('-')));
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return random.pick(int32s.filter((number) => number >= 0));
    default:
      return random.pick(int32s);
  }
}
