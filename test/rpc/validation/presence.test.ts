import { create, ScalarType, type DescField, type DescMessage, type DescMethod } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import { services } from '../../../src/rpc/handlers/handlers.ts';
import { createValidation } from '../../../src/rpc/validation/validation.ts';

const validation: Readonly<Record<string, unknown>> = createValidation(limits);

/** Fields of requests that may be left out, and why that harms nobody. */
const mayBeLeftOut: ReadonlyMap<string, string> = new Map([
  ['millrace.v1.PublishRequest.partition', 'the keys of the records choose the partition'],
  ['millrace.v1.PublishStreamRequest.partition', 'the keys of the records choose the partition'],
  ['millrace.v1.ReadMessagesRequest.partition', 'a look into the log changes nothing'],
]);

/** A partition that a request may name, with the fields that lead to it from the request. */
interface NamedPartition {
  readonly method: DescMethod;
  readonly path: readonly DescField[];
}

const named = services.flatMap(({ methods }) =>
  methods.flatMap((method) => pathsFrom(method.input).map((path): NamedPartition => ({ method, path }))),
);

function pathsFrom(message: DescMessage): DescField[][] {
  return message.fields.flatMap((field) => {
    if (isPartition(field)) return [[field]];
    if (field.message?.typeName.startsWith('millrace.v1.') !== true) return [];
    return pathsFrom(field.message).map((path) => [field, ...path]);
  });
}

/** Topic.partitions and the like are counts; a `partition` in the singular is the number of one. */
function isPartition(field: DescField): boolean {
  return field.name === 'partition' && field.fieldKind === 'scalar' && field.scalar === ScalarType.INT32;
}

/** A request with the messages on the path, each of them empty. */
function requestAlong([field, ...rest]: readonly DescField[]): Record<string, unknown> {
  if (field === undefined || rest.length === 0) return {};
  const inner = requestAlong(rest);
  const value = field.fieldKind === 'list' ? [inner] : inner;
  const oneof = field.oneof?.localName;
  return oneof === undefined ? { [field.localName]: value } : { [oneof]: { case: field.localName, value } };
}

/** The path as violations have it. */
function textOf(path: readonly DescField[]): string {
  return path.map((field) => (field.fieldKind === 'list' ? `${field.name}[0]` : field.name)).join('.');
}

function violationsOf({ method, path }: NamedPartition): readonly { field: string; description: string }[] {
  const validate = validation[method.localName] as ((request: unknown) => void) | undefined;
  expect(validate, `${method.name} has rules`).toBeTypeOf('function');
  try {
    validate!(create(method.input, requestAlong(path)));
  } catch (error) {
    if (error instanceof Rejection && error.reason === 'INVALID_FIELD') return error.violations;
    throw error;
  }
  return [];
}

const fieldName = ({ path }: NamedPartition): string => `${path.at(-1)!.parent.typeName}.${path.at(-1)!.name}`;
const required = named.filter((one) => !mayBeLeftOut.has(fieldName(one)));

test('a request that forgets a partition is refused, whichever call it is, and does not mean partition 0', () => {
  expect(required.length).toBeGreaterThanOrEqual(10);
  const accepted = required
    .filter((one) => !violationsOf(one).some(({ field }) => field === textOf(one.path)))
    .map(({ method, path }) => `${method.name}: ${textOf(path)}`);
  expect(accepted).toEqual([]);
});

test('a partition of a request has explicit presence, so that 0 and forgotten are two things on the wire', () => {
  const implicit = named.filter(({ path }) => !path.at(-1)!.proto.proto3Optional).map(fieldName);
  expect(implicit).toEqual([]);
});

test('a field that may be left out is still there', () => {
  const there = new Set(named.map(fieldName));
  expect([...mayBeLeftOut.keys()].filter((name) => !there.has(name))).toEqual([]);
});
