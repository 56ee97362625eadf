import { ScalarType, toJsonString, type DescField, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { FeatureSet_FieldPresence } from '@bufbuild/protobuf/wkt';
import { limits } from '../../limits/limits.ts';

type Message = MessageShape<DescMessage>;
type Values = Readonly<Record<string, unknown>>;

/**
 * Encodes a message in JSON, as `toJsonString` does. The work between two yields is short: the
 * records of one answer would otherwise stop the event loop for 400 ms. Node encodes bytes in
 * base64 a hundred times faster than protobuf-es.
 */
export function* jsonEncodingSteps(desc: DescMessage, message: Message): Generator<null, Buffer> {
  const text = new JsonText();
  yield* write(desc, message, text);
  return text.bytes();
}

function* write(desc: DescMessage, message: Message, text: JsonText): Generator<null> {
  const values = message as unknown as Values;
  const parts = partsOf(desc).filter(({ localName }) => !isEmpty(values[localName]));
  const rest = toJsonString(desc, without(message, parts));
  text.add(parts.length === 0 ? rest : rest.slice(0, -1));
  let separator = rest === '{}' ? '' : ',';
  for (const { localName, jsonName, fieldKind, message: inner } of parts) {
    const value = values[localName];
    text.add(`${separator}${JSON.stringify(jsonName)}:`);
    separator = ',';
    if (inner === undefined) text.add(`"${base64(value as Uint8Array)}"`);
    else if (fieldKind === 'list') yield* writeList(inner, value as readonly Message[], text);
    else yield* write(inner, value as Message, text);
  }
  if (parts.length > 0) text.add('}');
}

function* writeList(desc: DescMessage, entries: readonly Message[], text: JsonText): Generator<null> {
  let separator = '[';
  for (const entry of entries) {
    text.add(separator);
    separator = ',';
    yield* write(desc, entry, text);
    if (text.hasStep()) yield null;
  }
  text.add(']');
}

/** Without a presence of their own, empty lists and bytes are left out. */
function isEmpty(value: unknown): boolean {
  return value === undefined || (value as { readonly length?: number }).length === 0;
}

function base64({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('base64');
}

const partsByMessage = new Map<DescMessage, readonly DescField[]>();

/** The fields that are encoded by themselves. */
function partsOf(desc: DescMessage): readonly DescField[] {
  let parts = partsByMessage.get(desc);
  if (parts === undefined) {
    parts = desc.fields.filter((field) => isPart(field, new Set([desc])));
    partsByMessage.set(desc, parts);
  }
  return parts;
}

/** Lists of messages, bytes, and messages that have one of them. */
function isPart(field: DescField, above: ReadonlySet<DescMessage>): boolean {
  const { fieldKind, message, oneof, scalar, presence } = field;
  if (oneof !== undefined) return false;
  if (fieldKind === 'scalar') return scalar === ScalarType.BYTES && presence === FeatureSet_FieldPresence.IMPLICIT;
  // The messages of Google have forms of their own in JSON.
  if (message === undefined || fieldKind === 'map' || message.typeName.startsWith('google.protobuf.')) return false;
  if (fieldKind === 'list') return true;
  return !above.has(message) && message.fields.some((inner) => isPart(inner, new Set([...above, message])));
}

function without(message: Message, parts: readonly DescField[]): Message {
  if (parts.length === 0) return message;
  const prototype = Object.getPrototypeOf(message) as object;
  const rest = Object.assign(Object.create(prototype) as Record<string, unknown>, message);
  for (const { localName, fieldKind } of parts) {
    if (fieldKind === 'list') rest[localName] = [];
    else if (fieldKind === 'scalar') rest[localName] = noBytes;
    else delete rest[localName];
  }
  return rest;
}

const noBytes = new Uint8Array(0);

/** The text so far. A part of it becomes bytes at each step. */
class JsonText {
  readonly #encoded: Buffer[] = [];
  #waiting: string[] = [];
  #chars = 0;

  add(text: string): void {
    this.#waiting.push(text);
    this.#chars += text.length;
  }

  /** Whether enough was added since the last step. */
  hasStep(): boolean {
    if (this.#chars < limits.bytesAtOnceMax) return false;
    this.#encode();
    return true;
  }

  bytes(): Buffer {
    this.#encode();
    return Buffer.concat(this.#encoded);
  }

  #encode(): void {
    this.#encoded.push(Buffer.from(this.#waiting.join('')));
    this.#waiting = [];
    this.#chars = 0;
  }
}
