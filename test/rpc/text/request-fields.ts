import type { DescField, DescMessage, DescMethod, ScalarType } from '@bufbuild/protobuf';
import { services } from '../../../src/rpc/handlers/handlers.ts';

/** A field of a request, by the fields that lead to it; the last one is it. */
export type FieldPath = readonly DescField[];

/** What stands in the field: the value, or for a map the key or the value of its one entry. */
export type Place = 'value' | 'map key' | 'map value';

export interface Target {
  readonly name: string;
  readonly method: DescMethod;
  readonly path: FieldPath;
  readonly place: Place;
  readonly scalar: ScalarType;
}

/** Every scalar of these types in the requests of all calls, however deep. */
export function requestFields(types: readonly ScalarType[]): Target[] {
  return services
    .flatMap((service) => service.methods)
    .flatMap((method) =>
      fieldsBelow(method.input, []).flatMap((path) =>
        scalarsOf(path.at(-1)!)
          .filter(([, scalar]) => types.includes(scalar))
          .map(([place, scalar]) => ({ name: nameOf(method, path, place), method, path, place, scalar })),
      ),
    );
}

function nameOf(method: DescMethod, path: FieldPath, place: Place): string {
  return `${method.name}: ${path.map(({ name }) => name).join('.')}${place === 'value' ? '' : ` (${place})`}`;
}

function fieldsBelow(desc: DescMessage, path: FieldPath): FieldPath[] {
  // A Timestamp and a Duration are texts in JSON.
  if (desc.typeName.startsWith('google.protobuf.')) return [];
  return desc.fields.flatMap((field) => {
    const here = [...path, field];
    return field.message === undefined ? [here] : fieldsBelow(field.message, here);
  });
}

function scalarsOf(field: DescField): readonly (readonly [Place, ScalarType])[] {
  if (field.fieldKind === 'map') {
    const value = field.scalar === undefined ? [] : [['map value', field.scalar] as const];
    return [['map key', field.mapKey], ...value];
  }
  return field.scalar === undefined ? [] : [['value', field.scalar]];
}

/** The request in JSON with this text, which is JSON already, in the field. */
export function jsonWith({ path, place }: Target, text: Buffer | string): Buffer<ArrayBuffer> {
  const mark = '@here@';
  const of = { value: mark, 'map key': { [mark]: 'v' }, 'map value': { k: mark } }[place];
  const request = path.toReversed().reduce<unknown>((inner, field) => {
    return { [field.jsonName]: field.fieldKind === 'list' ? [inner] : inner };
  }, of);
  const [before = '', after = ''] = JSON.stringify(request).split(`"${mark}"`);
  return Buffer.concat([Buffer.from(before), Buffer.from(text), Buffer.from(after)]);
}

/** The request in protobuf with these bytes as the text of the field. */
export function binaryWith({ path, place }: Target, text: Buffer): Buffer<ArrayBuffer> {
  const content = { value: text, 'map key': delimited(1, text), 'map value': delimited(2, text) }[place];
  return path.toReversed().reduce((inner, field) => delimited(field.number, inner), content) as Buffer<ArrayBuffer>;
}

function delimited(number: number, content: Buffer): Buffer<ArrayBuffer> {
  if (number > 15 || content.length > 127) throw new Error('a tag or length of more than one byte');
  return Buffer.concat([Buffer.from([(number << 3) | 2, content.length]), content]);
}
