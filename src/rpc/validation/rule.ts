import type { DescMessage, MessageShape } from '@bufbuild/protobuf';

/** Gets each wrong field: its path in the proto's names, and its error. */
type Report = (field: string, description: string) => void;

/** Checks one value. `field` is its path, for the report. */
export type Rule<T> = (value: T, field: string, report: Report) => void;

type OneofOf<M> = Extract<M[keyof M], { readonly case: string }>;

/** Rules for fields of a message by their TypeScript names, the cases of oneofs among them. */
type FieldRules<M> = {
  readonly [K in Exclude<keyof M, `$${string}`>]?: Rule<M[K]>;
} & {
  readonly [K in OneofOf<M>['case']]?: Extract<OneofOf<M>, { readonly case: K }> extends { readonly value: infer V }
    ? Rule<V>
    : never;
};

/**
 * The rules of message types by their full names. A test compares them with the proto's comments.
 */
export type RuledFields = Map<string, readonly string[]>;

/**
 * Checks a message field by field, and then as a whole by `whole`. An unset message passes;
 * `required` rejects it.
 */
export function message<D extends DescMessage>(
  ruled: RuledFields,
  desc: D,
  rules: FieldRules<MessageShape<D>>,
  whole?: Rule<MessageShape<D>>,
): Rule<MessageShape<D> | undefined> {
  const fields = compile(desc, rules);
  ruled.set(desc.typeName, Object.keys(rules));
  return (value, field, report) => {
    if (value === undefined) return;
    const prefix = field === '' ? '' : `${field}.`;
    for (const { name, read, rule } of fields) {
      const part = read(value);
      if (part !== absent) rule(part, prefix + name, report);
    }
    whole?.(value, field, report);
  };
}

/** A case of a oneof that is not the one in use. */
const absent = Symbol('absent');

interface CompiledField {
  readonly name: string;
  readonly read: (message: Readonly<Record<string, unknown>>) => unknown;
  readonly rule: Rule<unknown>;
}

function compile(desc: DescMessage, rules: Readonly<Record<string, Rule<unknown>>>): CompiledField[] {
  return Object.entries(rules).map(([localName, rule]) => {
    const field = desc.fields.find((candidate) => candidate.localName === localName);
    if (field === undefined) throw new Error(`${desc.typeName} has no field ${localName}`);
    const oneof = field.oneof?.localName;
    return { name: field.name, rule, read: oneof === undefined ? (m) => m[localName] : oneofReader(oneof, localName) };
  });
}

function oneofReader(oneof: string, localName: string): CompiledField['read'] {
  return (message) => {
    const chosen = message[oneof] as { readonly case?: string; readonly value?: unknown };
    return chosen.case === localName ? chosen.value : absent;
  };
}
