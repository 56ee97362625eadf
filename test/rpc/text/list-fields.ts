import { ScalarType, type DescField, type DescMethod } from '@bufbuild/protobuf';
import { ServerReflection } from '../../../gen/grpc/reflection/v1/reflection_pb.js';
import { services } from '../../../src/rpc/handlers/handlers.ts';
import type { FieldPath } from './request-fields.ts';

/** A list or a map in the request of a call, by the fields that lead to it; the last one is it. */
export interface ListField {
  readonly name: string;
  readonly method: DescMethod;
  readonly path: FieldPath;
}

/** Every list and map of every request, however deep, also those of messages of Google. */
export function listFields(): ListField[] {
  return [...services, ServerReflection]
    .flatMap(({ methods }) => methods)
    .flatMap((method) =>
      listsBelow(method.input.fields, []).map((path) => {
        return { name: `${method.name}: ${path.map(({ name }) => name).join('.')}`, method, path };
      }),
    );
}

function listsBelow(fields: readonly DescField[], path: FieldPath): FieldPath[] {
  return fields.flatMap((field) => {
    const here = [...path, field];
    // A message type that contains itself would go on for ever.
    const below = path.includes(field) ? [] : listsBelow(field.message?.fields ?? [], here);
    return field.fieldKind === 'list' || field.fieldKind === 'map' ? [here, ...below] : below;
  });
}

/** The request in protobuf with so many of the smallest entries in the list. */
export function binaryWithEntries({ path }: ListField, entries: number): Buffer<ArrayBuffer> {
  const list = path.at(-1)!;
  return path.slice(0, -1).reduceRight((inner, { number }) => field(number, inner), listOf(list, entries));
}

/** The same with one entry in each of so many parents, which are entries of a list themselves. */
export function binaryWithParents({ path }: ListField, parents: number): Buffer<ArrayBuffer> | null {
  const outer = path.slice(0, -1).findLastIndex(({ fieldKind }) => fieldKind === 'list');
  if (outer === -1) return null;
  const below = path.slice(outer + 1);
  const one = below.slice(0, -1).reduceRight((inner, { number }) => field(number, inner), listOf(below.at(-1)!, 1));
  const many = repeated(field(path[outer]!.number, one), parents);
  return path.slice(0, outer).reduceRight((inner, { number }) => field(number, inner), many);
}

/** The request in JSON with so many of these entries in the list. */
export function jsonWithEntries({ path }: ListField, entry: string, entries: number): Buffer<ArrayBuffer> {
  const mark = '@here@';
  const request = path.toReversed().reduce<unknown>((inner, { jsonName, fieldKind }) => {
    return { [jsonName]: fieldKind === 'list' ? [inner] : inner };
  }, mark);
  const [before = '', after = ''] = JSON.stringify(request).split(`"${mark}"`);
  return Buffer.concat([
    Buffer.from(before),
    repeated(Buffer.from(`${entry},`), entries - 1),
    Buffer.from(entry + after),
  ]);
}

function listOf(list: DescField, entries: number): Buffer<ArrayBuffer> {
  const isNumber = list.fieldKind === 'list' && list.message === undefined && !isDelimited(list.scalar);
  return isNumber ? field(list.number, Buffer.alloc(entries)) : repeated(field(list.number, Buffer.alloc(0)), entries);
}

function isDelimited(scalar: ScalarType | undefined): boolean {
  return scalar === ScalarType.STRING || scalar === ScalarType.BYTES;
}

function repeated(bytes: Buffer, count: number): Buffer<ArrayBuffer> {
  return Buffer.alloc(bytes.length * count, bytes);
}

/** A field with a length. */
function field(number: number, content: Buffer): Buffer<ArrayBuffer> {
  const length: number[] = [];
  for (let rest = content.length; ; rest >>>= 7) {
    length.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
    if (rest <= 0x7f) break;
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), content]);
}
