import {
  fromJsonString,
  type DescField,
  type DescMessage,
  type JsonObject,
  type MessageShape,
} from '@bufbuild/protobuf';
import { limits } from '../../limits/limits.ts';
import { elementsOf, isList, isObject, membersOf, type JsonMember, type Span } from './json-outline.ts';
import { checkJsonNumbers } from './json-numbers.ts';

type Decoded = MessageShape<DescMessage>;
type MessageList = DescField & { readonly fieldKind: 'list'; readonly listKind: 'message' };
type OneMessage = DescField & { readonly fieldKind: 'message' };
type Member = JsonMember & { readonly field: DescField };

/**
 * Decodes a message by parts of the same type, which are merged later, as strictly as
 * `fromJsonString` decodes all of it. The work between two yields is short.
 * @returns parts with entries of one list, then the one with everything else; null between them.
 */
export function* jsonParts(desc: DescMessage, json: Buffer, span: Span, path = ''): Generator<Decoded | null> {
  if (!isLarge(span)) {
    yield yield* decodeText(desc, textOf(json, span), path);
    return;
  }
  const members = knownMembers(desc, membersOf(json, span, limits.requestEntriesMax));
  yield null;
  const message = yield* decodeText(desc, skeletonOf(json, members), path);
  for (const member of members) {
    const { field } = member;
    const below = path === '' ? member.name : `${path}.${member.name}`;
    if (isLargeList(json, member, field)) yield* listParts(desc, field, json, member, below);
    else if (isLargeMessage(json, member, field)) {
      setMessage(message, field, yield* joined(field.message, jsonParts(field.message, json, member, below)));
    } else continue;
    yield null;
  }
  yield message;
}

/** Merges the parts. */
export function* joined(desc: DescMessage, parts: Iterable<Decoded | null>): Generator<null, Decoded> {
  const lists = desc.fields.filter(({ fieldKind }) => fieldKind === 'list').map(({ localName }) => localName);
  const entries = new Map<string, unknown[]>();
  let last: Record<string, unknown> | null = null;
  for (const part of parts) {
    if (part !== null) {
      if (last !== null) for (const name of lists) addTo(entries, name, last[name] as unknown[]);
      last = part;
    }
    yield null;
  }
  for (const [name, all] of entries) (last as Record<string, unknown>)[name] = all;
  return last as unknown as Decoded;
}

function addTo(entries: Map<string, unknown[]>, name: string, more: readonly unknown[]): void {
  if (more.length === 0) return;
  const all = entries.get(name);
  if (all === undefined) entries.set(name, [...more]);
  else for (const entry of more) all.push(entry);
}

function* listParts(
  desc: DescMessage,
  field: MessageList,
  json: Buffer,
  list: Member,
  path: string,
): Generator<Decoded | null> {
  const elements = elementsOf(json, list);
  yield null;
  for (let first = 0; 2 * first < elements.length;) {
    const count = countAtOnce(elements, first);
    const span = { start: startOf(elements, first), end: endOf(elements, first + count - 1) };
    if (isLarge(span)) {
      const element = yield* joined(field.message, jsonParts(field.message, json, span, `${path}[${first}]`));
      const part = fromJsonString(desc, '{}') as Record<string, unknown>;
      part[field.localName] = [element];
      yield part as unknown as Decoded;
    } else {
      const text = `{${JSON.stringify(list.name)}:[${textOf(json, span)}]}`;
      const part = fromJsonString(desc, text);
      const texts = (JSON.parse(text) as JsonObject)[list.name] as readonly unknown[];
      texts.forEach((element, index) => {
        checkJsonNumbers(field.message, element, `${path}[${first + index}]`);
      });
      yield part;
    }
    first += count;
  }
}

/** How many elements from the first one on are decoded at once. */
function countAtOnce(elements: readonly number[], first: number): number {
  const start = startOf(elements, first);
  let count = 1;
  while (
    count < limits.entriesAtOnceMax &&
    2 * (first + count) < elements.length &&
    endOf(elements, first + count) - start <= limits.bytesAtOnceMax
  )
    count += 1;
  return count;
}

function startOf(elements: readonly number[], index: number): number {
  return elements[2 * index] ?? 0;
}

function endOf(elements: readonly number[], index: number): number {
  return elements[2 * index + 1] ?? 0;
}

function* decodeText(desc: DescMessage, text: string, path: string): Generator<null, Decoded> {
  const message = fromJsonString(desc, text);
  // One text of a request may have some MiB, which are parsed twice.
  if (text.length > limits.bytesAtOnceMax) yield null;
  checkJsonNumbers(desc, JSON.parse(text), path);
  return message;
}

/** The text of the object without the large values, which are decoded by themselves. */
function skeletonOf(json: Buffer, members: readonly Member[]): string {
  const texts = members.map((member) => {
    const { name, field } = member;
    if (isLargeList(json, member, field)) return `${JSON.stringify(name)}:[]`;
    if (isLargeMessage(json, member, field)) return `${JSON.stringify(name)}:{}`;
    if (field.fieldKind === 'map' && isLarge(member) && isObject(json, member)) {
      membersOf(json, member, limits.requestEntriesMax);
    }
    return `${JSON.stringify(name)}:${textOf(json, member)}`;
  });
  return `{${texts.join(',')}}`;
}

/** With the errors that protobuf-es has for an unknown key and for a second one. */
function knownMembers(desc: DescMessage, members: readonly JsonMember[]): Member[] {
  const fields = new Map<string, DescField>();
  for (const field of desc.fields) fields.set(field.name, field).set(field.jsonName, field);
  const seen = new Set<DescField>();
  return members.map((member) => {
    const field = fields.get(member.name);
    if (field === undefined) {
      throw new Error(`cannot decode ${desc.toString()} from JSON: key ${JSON.stringify(member.name)} is unknown`);
    }
    if (seen.has(field)) throw new Error(`cannot decode ${field.toString()} from JSON: set multiple times`);
    seen.add(field);
    return { ...member, field };
  });
}

function isLarge({ start, end }: Span): boolean {
  return end - start > limits.bytesAtOnceMax;
}

function isLargeList(json: Buffer, span: Span, field: DescField): field is MessageList {
  return field.fieldKind === 'list' && field.listKind === 'message' && isLarge(span) && isList(json, span);
}

function isLargeMessage(json: Buffer, span: Span, field: DescField): field is OneMessage {
  return field.fieldKind === 'message' && isLarge(span) && isObject(json, span);
}

function setMessage(message: Decoded, field: OneMessage, value: Decoded): void {
  const fields = message as unknown as Record<string, unknown>;
  if (field.oneof === undefined) fields[field.localName] = value;
  else fields[field.oneof.localName] = { case: field.localName, value };
}

function textOf(json: Buffer, { start, end }: Span): string {
  return json.toString('utf8', start, end);
}
