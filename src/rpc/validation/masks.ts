import type { FieldMask } from '@bufbuild/protobuf/wkt';
import type { Rule } from './rule.ts';

/** What a mask may name: each path with the settings of the broker that it changes. */
type MaskTable<Setting extends string> = Readonly<Record<string, readonly Setting[]>>;

/** Paths of which at most one can be set, each with the name of its case in the message. */
export interface MaskedOneof<M> {
  readonly cases: Readonly<Record<string, string>>;
  readonly chosen: (message: M) => string | undefined;
}

export const topicMask = {
  idempotency_window: ['idempotencyWindowMs'],
  description: ['description'],
  retention: ['afterCompletionMs', 'excusedKeepMs', 'maxAgeMs', 'maxBytes'],
  'retention.after_completion': ['afterCompletionMs'],
  'retention.keep_forever': ['afterCompletionMs'],
  'retention.excused_keep_for': ['excusedKeepMs'],
  'retention.max_age': ['maxAgeMs'],
  'retention.max_bytes': ['maxBytes'],
  zero_subscriptions: ['keepUnsubscribedMs'],
  'zero_subscriptions.keep_for': ['keepUnsubscribedMs'],
  'zero_subscriptions.refuse_publish': ['keepUnsubscribedMs'],
} as const satisfies MaskTable<string>;

export const subscriptionMask = {
  dead_after: ['deadAfterMs'],
  never_dies: ['deadAfterMs'],
} as const satisfies MaskTable<string>;

/** The settings that the mask names. */
export function settingsIn<Setting extends string>(
  table: MaskTable<Setting>,
  mask: FieldMask | undefined,
): ReadonlySet<Setting> {
  return new Set((mask?.paths ?? []).flatMap((path) => table[path] ?? []));
}

/** A mask names at least one field, and only fields of the table. */
export function maskRule(table: MaskTable<string>): Rule<FieldMask | undefined> {
  const known = Object.keys(table).join(', ');
  return (mask, at, report) => {
    if (mask === undefined || mask.paths.length === 0) report(at, `must name at least one of ${known}`);
    for (const path of mask?.paths ?? []) {
      if (!Object.hasOwn(table, path)) report(at, `names a field that is not one of ${known}`);
    }
  };
}

interface Masked<M> {
  readonly message: M;
  /** The path of the message in the request. */
  readonly at: string;
  readonly mask: FieldMask | undefined;
}

/**
 * The rule of a message under a mask. `always` names the fields that identify what is changed. All
 * other fields are ignored unless the mask names them, so that a client may send back a whole
 * message that it has read.
 */
export function maskedRule<M>(
  rule: Rule<M>,
  oneofs: readonly MaskedOneof<M>[],
  always: readonly string[],
): Rule<Masked<M>> {
  return ({ message, at, mask }, _field, report) => {
    const paths = [...new Set(mask?.paths)];
    const applies = [...always, ...paths].map((path) => `${at}.${path}`);
    rule(message, at, (path, description) => {
      if (applies.some((one) => path === one || path.startsWith(`${one}.`))) report(path, description);
    });
    for (const { cases, chosen } of oneofs) {
      const named = paths.filter((path) => Object.hasOwn(cases, path));
      const [path, other] = named;
      if (path === undefined) continue;
      const set = chosen(message);
      if (other !== undefined) report('update_mask', `contradicts itself: only one of ${path} and ${other} can be set`);
      else if (set !== undefined && cases[path] !== set) report(`${at}.${path}`, `contradicts the one that is set`);
    }
  };
}
