import {
  fromBinary,
  fromJson,
  fromJsonString,
  ScalarType,
  toBinary,
  type DescField,
  type DescMessage,
  type DescMethod,
  type JsonValue,
} from '@bufbuild/protobuf';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import { requestBytesMax } from '../../../src/rpc/requests/request-body.ts';
import { countEntries } from '../../../src/rpc/translation/entry-count.ts';
import { checkJsonSize } from '../../../src/rpc/translation/json-size.ts';
import { createValidation } from '../../../src/rpc/validation/validation.ts';
import { scanPublish } from '../../../src/wire/scan-publish.ts';

/** The largest requests of a call, by reflection: a new call is measured without being named. */

export type Format = 'proto' | 'json';
type Json = JsonValue;

/**
 * Values of fields by their names, with which a request meets something that exists. A function
 * makes the values of entries of lists by their index.
 */
export type Scene = Readonly<Record<string, Json | ((index: number) => Json)>>;

export interface LargestRequest {
  readonly what: string;
  readonly body: Buffer;
}

/** A list or a text in a request, by the fields that lead to it. */
type Path = readonly DescField[];

const rules = createValidation({ partitionsMax: limits.partitionsMax });

/** Entries of lists, of which the first is tried that is not refused. */
const counts = [100_000, 10_000, 1_000, 100, 64, 10, 1];
const decodableCounts = [200_000, 100_000, 50_000, 20_000, 10_000];
const textSizes = [4_180_000, 2_090_000, 1_380_000, 1_040_000, 690_000, 170_000];
/** One byte in JSON for one byte in protobuf, and two, and six. */
const textPieces = ['x', '"', '\u0001'];
/** Beside the largest list, whose texts share the rest of a request. */
const spareBytes = 200_000;

/**
 * For each scene the request for the largest answer, and each list with as many entries as its rule
 * allows. Then requests that only a look at all of their bytes refuses: each list with as many
 * entries as may be decoded, and each text as long as a request.
 */
export function* largestRequests(
  method: DescMethod,
  format: Format,
  scenes: readonly Scene[],
  { textsPerCall, scenesWithLists }: { readonly textsPerCall: number; readonly scenesWithLists: number },
): Generator<LargestRequest> {
  const lists = pathsOf(method.input.fields, isMany);
  /** The entries that the first scene had, which take long to find. */
  const known = new Map<Path, number>();
  const growing = new Set([...scenes.slice(0, scenesWithLists), scenes.at(-1)]);
  for (const scene of scenes) {
    const base = taken(method, format, [1], () => messageOf(method.input, scene));
    if (base !== null) yield { what: 'what it asks for', body: base };
    for (const path of growing.has(scene) ? lists : []) {
      const among = counts.filter((count) => count <= (known.get(path) ?? Infinity));
      const body = taken(method, format, among, (count) => {
        known.set(path, count);
        return messageOf(method.input, scene, path, count);
      });
      if (body !== null) yield { what: nameOf(path), body };
    }
  }
  for (const path of lists) {
    const body = decodable(method, format, decodableCounts, (count) => emptyEntries(path, count));
    if (body !== null) yield { what: `empty ${nameOf(path)}`, body };
  }
  const texts = pathsOf(method.input.fields, isText);
  const isBytes = (path: Path): boolean => path.at(-1)?.scalar === ScalarType.BYTES;
  texts.sort((a, b) => Number(isBytes(b)) - Number(isBytes(a)));
  for (const path of texts.slice(0, textsPerCall)) {
    for (const piece of textPieces) {
      const body = decodable(method, format, textSizes, (bytes) => textIn(path, piece.repeat(bytes)));
      if (body !== null) yield { what: `${JSON.stringify(piece)} in ${nameOf(path)}`, body };
    }
  }
}

/** The request of the first count that no rule refuses, without the fields that a rule refuses. */
function taken(
  method: DescMethod,
  format: Format,
  among: readonly number[],
  make: (count: number) => Record<string, Json>,
): Buffer | null {
  for (const count of among) {
    const message = make(count);
    for (let tries = 0; tries < 5; tries += 1) {
      const body = decodable(method, format, [count], () => message);
      if (body === null) break;
      const wrong = violationsOf(method, format, body);
      if (wrong.length === 0) return body;
      const optional = method.input.fields.filter(
        ({ name, fieldKind }) => wrong.includes(name) && fieldKind !== 'list',
      );
      if (optional.length === 0) break;
      for (const { jsonName } of optional) delete message[jsonName];
    }
  }
  return null;
}

/** The fields that a rule refuses. */
function violationsOf({ input, name, localName }: DescMethod, format: Format, body: Buffer): readonly string[] {
  try {
    if (name.startsWith('Publish')) {
      const bytes = format === 'proto' ? body : toBinary(input, fromJsonString(input, body.toString()));
      scanPublish(Buffer.from(bytes), limits);
    } else {
      const rule = (rules as unknown as Record<string, (request: unknown) => void>)[localName];
      const json = format === 'json' ? (JSON.parse(body.toString()) as Json) : null;
      rule?.(json === null ? fromBinary(input, body) : fromJson(input, json));
    }
    return [];
  } catch (error) {
    if (!(error instanceof Rejection)) throw error;
    return error.violations.length > 0 ? error.violations.map(({ field }) => field) : ['the request'];
  }
}

/** The request of the first count that the edge would decode. */
function decodable(
  method: DescMethod,
  format: Format,
  among: readonly number[],
  make: (count: number) => Record<string, Json>,
): Buffer | null {
  const bytesMax = requestBytesMax(method, format === 'json');
  for (const count of among) {
    try {
      const body = encoded(method.input, format, make(count));
      if (body.length > bytesMax) continue;
      if (format === 'json') checkJsonSize(body);
      else countEntries(method.input, body);
      return body;
    } catch {
      // More entries than may be decoded, or a text that no field of this type has.
    }
  }
  return null;
}

function encoded(desc: DescMessage, format: Format, message: Record<string, Json>): Buffer {
  return format === 'json'
    ? Buffer.from(JSON.stringify(message))
    : Buffer.from(toBinary(desc, fromJson(desc, message)));
}

function isMany({ fieldKind }: DescField): boolean {
  return fieldKind === 'list' || fieldKind === 'map';
}

function isText({ scalar }: DescField): boolean {
  return scalar === ScalarType.STRING || scalar === ScalarType.BYTES;
}

function pathsOf(fields: readonly DescField[], wanted: (field: DescField) => boolean, above: Path = []): Path[] {
  return fields.flatMap((field) => {
    const here = [...above, field];
    const { message } = field;
    const isOwn = message?.typeName.startsWith('google.protobuf.') === false;
    const below = !isOwn || above.includes(field) ? [] : pathsOf(message.fields, wanted, here);
    return wanted(field) ? [here, ...below] : below;
  });
}

function nameOf(path: Path): string {
  return path.map(({ name }) => name).join('.');
}

/**
 * The message with every field that the scene has, and `count` entries in the list that the path
 * leads to, whose texts together nearly fill a request.
 */
function messageOf(desc: DescMessage, scene: Scene, path: Path = [], count = 0, index = 0): Record<string, Json> {
  const message: Record<string, Json> = {};
  const [step, ...below] = path;
  const chosen = new Set(step?.oneof === undefined ? [] : [step.oneof]);
  for (const field of desc.fields) {
    const ofLeaf = step === undefined ? scene[`leaf ${field.name}`] : undefined;
    const value = ofLeaf ?? scene[`${desc.name}.${field.name}`] ?? scene[field.name];
    if (value === undefined || isMany(field) || field === step) continue;
    if (field.oneof !== undefined && chosen.has(field.oneof)) continue;
    if (field.oneof !== undefined) chosen.add(field.oneof);
    if (field.message === undefined || typeof value !== 'boolean') message[field.jsonName] = valueOf(value, index);
    else message[field.jsonName] = messageOf(field.message, scene, [], 0, index);
  }
  if (step === undefined) return message;
  if (below.length === 0) message[step.jsonName] = entriesOf(step, scene, count);
  else {
    const inner = messageOf(step.message!, scene, below, count, index);
    message[step.jsonName] = step.fieldKind === 'list' ? [inner] : inner;
  }
  return message;
}

function valueOf(value: Scene[string], index: number): Json {
  return typeof value === 'function' ? value(index) : value;
}

function entriesOf(list: DescField, scene: Scene, count: number): Json {
  const text = 'x'.repeat(Math.max(0, Math.floor((limits.publishBytesMax - spareBytes) / count) - 100));
  const filled = { metadata: text.slice(0, 4_000), value: Buffer.from(text).toString('base64'), ...scene };
  const entry = (_: unknown, index: number): Json => {
    if (list.message !== undefined) return messageOf(list.message, filled, [], 0, index);
    return valueOf(scene[list.name] ?? (isText(list) || list.fieldKind === 'map' ? `text-${index}` : index), index);
  };
  const entries = Array.from({ length: count }, entry);
  return list.fieldKind === 'map' ? Object.fromEntries(entries.map((value, at) => [`k${at}`, value])) : entries;
}

/** The smallest entries. */
function emptyEntries(path: Path, count: number): Record<string, Json> {
  const list = path.at(-1)!;
  const entry = list.message === undefined ? (isText(list) ? '' : '0') : {};
  const entries = Array.from({ length: count }, (): Json => (list.enum === undefined ? entry : 1));
  return at(path, list.fieldKind === 'map' ? Object.fromEntries(entries.map((_, key) => [`${key}`, ''])) : entries);
}

function textIn(path: Path, text: string): Record<string, Json> {
  const field = path.at(-1)!;
  const value = field.scalar === ScalarType.BYTES ? Buffer.from(text).toString('base64') : text;
  if (field.fieldKind === 'list') return at(path, [value]);
  return at(path, field.fieldKind === 'map' ? { [text]: '' } : value);
}

/** The request with the value where the path leads. */
function at(path: Path, value: Json): Record<string, Json> {
  return path.toReversed().reduce<Json>((inner, { jsonName, fieldKind }, up) => {
    return { [jsonName]: fieldKind === 'list' && up > 0 ? [inner] : inner };
  }, value) as Record<string, Json>;
}
