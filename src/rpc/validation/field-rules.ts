import type { DescEnum } from '@bufbuild/protobuf';
import type { Duration, Timestamp } from '@bufbuild/protobuf/wkt';
import { limits } from '../../limits/limits.ts';
import { nameViolation } from '../../limits/names.ts';
import type { Rule } from './rule.ts';

/**
 * Rules for single fields. Where the proto gives a default, the zero of the type counts as unset.
 */

export const name: Rule<string> = (value, field, report) => {
  const violation = nameViolation(value);
  if (violation !== null) report(field, violation);
};

export const optionalName: Rule<string> = (value, field, report) => {
  if (value !== '') name(value, field, report);
};

export const memberId: Rule<string> = (value, field, report) => {
  if (value === '') report(field, 'is required');
  else optionalMemberId(value, field, report);
};

export const optionalMemberId: Rule<string> = text(limits.memberIdCharsMax);

/** Rejects a NUL, because PostgreSQL cannot store it in text. */
export function text(charsMax: number): Rule<string> {
  return (value, field, report) => {
    if (value.length > charsMax) report(field, `has more than ${charsMax} characters`);
    else if (value.includes('\0')) report(field, 'contains the character U+0000');
  };
}

export function bytes(bytesMax: number): Rule<Uint8Array> {
  return (value, field, report) => {
    if (value.length > bytesMax) report(field, `has ${value.length} bytes, more than ${bytesMax}`);
  };
}

/** Text that is bounded by its size in UTF-8, and that can be encoded so. */
export function utf8(bytesMax: number): Rule<string> {
  return (value, field, report) => {
    if (Buffer.byteLength(value) > bytesMax) report(field, `has more than ${bytesMax} bytes`);
    else if (value.includes('\0')) report(field, 'contains the character U+0000');
    else if (!value.isWellFormed()) report(field, 'is not valid Unicode');
  };
}

/** The tokens of this broker have these characters, so any other text is not a token. */
export const pageToken: Rule<string> = (value, field, report) => {
  if (value.length > limits.pageTokenCharsMax) report(field, `has more than ${limits.pageTokenCharsMax} characters`);
  else if (!/^[\w.~=-]*$/.test(value)) report(field, 'is not a token that a list returned');
};

/** A count; 0 is the default. */
export function count(max: number): Rule<number> {
  return (value, field, report) => {
    if (value < 0 || value > max) report(field, `must be from 1 to ${max}, or 0 for the default`);
  };
}

/** A required count. */
export function requiredCount(max: number): Rule<number> {
  return (value, field, report) => {
    if (value < 1 || value > max) report(field, `must be from 1 to ${max}`);
  };
}

/** As `count`, of an int64 field. */
export function longCount(max: number): Rule<bigint> {
  return (value, field, report) => {
    if (value < 0n || value > BigInt(max)) report(field, `must be from 1 to ${max}, or 0 for the default`);
  };
}

/**
 * Offsets and generations are numbers in the broker: exact up to 2^53 - 1, which no log reaches.
 */
export const notNegative: Rule<bigint | undefined> = (value, field, report) => {
  if (value === undefined) return;
  if (value < 0n) report(field, 'must not be negative');
  else if (value > BigInt(Number.MAX_SAFE_INTEGER)) report(field, `must not be more than ${Number.MAX_SAFE_INTEGER}`);
};

/** An optional number that is not below `min`, and that the broker's numbers hold exactly. */
export function atLeast(min: number): Rule<bigint | undefined> {
  const max = Number.MAX_SAFE_INTEGER;
  return (value, field, report) => {
    if (value === undefined) return;
    if (value < BigInt(min) || value > BigInt(max)) report(field, `must be from ${min} to ${max}, or unset`);
  };
}

/** A number of either sign that the broker's numbers hold exactly. */
export const exact: Rule<bigint> = (value, field, report) => {
  const max = Number.MAX_SAFE_INTEGER;
  if (value > BigInt(max) || value < BigInt(-max)) report(field, `must be from ${-max} to ${max}`);
};

/**
 * A required offset or generation, because 0 in place of an unset one would claim something that
 * the caller did not say.
 */
export const requiredNumber: Rule<bigint | undefined> = required(notNegative);

/** An optional partition, only where the request claims nothing about it. */
export const optionalPartition: Rule<number | undefined> = (value, field, report) => {
  if (value !== undefined && value < 0) report(field, 'must not be negative');
};

/**
 * Required, because a client that forgets the field would ack, commit or give back partition 0
 * instead of its own.
 */
export const partition: Rule<number | undefined> = required(optionalPartition);

/** Only the topic knows its number of lanes, and so whether a lane is required. */
export const lane: Rule<number | undefined> = optionalPartition;

/** Must be unset where a partition means all of its lanes. */
export const noLane: Rule<number | undefined> = (value, field, report) => {
  if (value !== undefined) report(field, 'must not be set: the partition is meant with all its lanes');
};

export function duration(msMin: number, msMax: number): Rule<Duration | undefined> {
  return (value, field, report) => {
    if (value === undefined) return;
    if (Math.abs(value.nanos) >= 1_000_000_000 || value.seconds * BigInt(Math.sign(value.nanos)) < 0n) {
      report(field, 'is not a duration: nanos must be below 1 s and have the sign of seconds');
      return;
    }
    const ms = Number(value.seconds) * 1_000 + value.nanos / 1_000_000;
    if (ms < msMin || ms > msMax) report(field, `must be from ${seconds(msMin)} to ${seconds(msMax)}`);
  };
}

function seconds(ms: number): string {
  return `${ms / 1_000}s`;
}

/** Of a field that the rule of its whole message checks. */
export const anything: Rule<unknown> = () => undefined;

/** A case of a oneof that is chosen by true. False would choose it too, and mean nothing. */
export const onlyTrue: Rule<boolean> = (value, field, report) => {
  if (!value) report(field, 'is only true, or unset');
};

/** The range of google.protobuf.Timestamp: years 1 to 9999. */
const timestampSecondsMin = -62_135_596_800n;
const timestampSecondsMax = 253_402_300_799n;

export const timestamp: Rule<Timestamp | undefined> = (value, field, report) => {
  if (value === undefined) return;
  const inRange = value.seconds >= timestampSecondsMin && value.seconds <= timestampSecondsMax;
  if (!inRange || value.nanos < 0 || value.nanos >= 1_000_000_000) {
    report(field, 'is not a timestamp: it must lie in the years 1 to 9999, with nanos from 0 to 999999999');
  }
};

export function oneOf(desc: DescEnum): Rule<number> {
  const known = desc.values.map((value) => value.name).join(', ');
  return (value, field, report) => {
    if (!Object.hasOwn(desc.value, value)) report(field, `is ${value}, which is none of ${known}`);
  };
}

export function required<T>(rule: Rule<T | undefined>): Rule<T | undefined> {
  return (value, field, report) => {
    if (value === undefined) report(field, 'is required');
    else rule(value, field, report);
  };
}

/** A list with a bounded number of entries, each checked by `rule`. */
export function list<T>(countMin: number, countMax: number, rule: Rule<T>): Rule<readonly T[]> {
  return (values, field, report) => {
    if (values.length < countMin || values.length > countMax) {
      report(field, `has ${values.length} entries; it must have from ${countMin} to ${countMax}`);
      return;
    }
    values.forEach((value, index) => {
      rule(value, `${field}[${index}]`, report);
    });
  };
}

/** A list of offsets. Only wrong offsets get a path, because acks have thousands of offsets. */
export function offsets(countMax: number): Rule<readonly bigint[]> {
  return (values, field, report) => {
    if (values.length > countMax) report(field, `has ${values.length} entries, more than ${countMax}`);
    else
      values.forEach((value, index) => {
        if (value < 0n || value > Number.MAX_SAFE_INTEGER) notNegative(value, `${field}[${index}]`, report);
      });
  };
}
