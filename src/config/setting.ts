/** One setting of the broker: the row that parsing, help and docs share. */
export interface Setting<T> {
  /** Without the dashes. The environment variable is the same in capitals with underscores. */
  readonly flag: string;
  /** One sentence for --help and docs/configuration.md. */
  readonly meaning: string;
  /** The kind of value, for the help; null for a switch without a value. */
  readonly value: string | null;
  /** The default as the help shows it. */
  readonly shownDefault: string;
  readonly fallback: T;
  /** Throws a `WrongValue` that describes the right values. */
  parse(text: string): T;
}

/** The error of a value, without the name of its setting. */
export class WrongValue extends Error {
  override readonly name = 'WrongValue';
}

export function environmentName(flag: string): string {
  return flag.replaceAll('-', '_').toUpperCase();
}

interface Named {
  readonly flag: string;
  readonly meaning: string;
}

export function wholeNumber(named: Named, fallback: number, min: number, max: number): Setting<number> {
  return {
    ...named,
    value: 'N',
    fallback,
    shownDefault: String(fallback),
    parse(text) {
      const number = /^\d{1,15}$/.test(text) ? Number(text) : -1;
      if (number < min || number > max) {
        throw new WrongValue(`"${text}" is not a whole number from ${String(min)} to ${String(max)}`);
      }
      return number;
    },
  };
}

export function oneOf<T extends string>(named: Named, fallback: T, choices: readonly T[]): Setting<T> {
  return {
    ...named,
    value: choices.join('|'),
    fallback,
    shownDefault: fallback,
    parse(text) {
      const choice = choices.find((each) => each === text);
      if (choice === undefined) throw new WrongValue(`"${text}" is not one of ${choices.join(', ')}`);
      return choice;
    },
  };
}

/** Whole seconds, or `forever`. The value is in milliseconds, and null for ever. */
export function secondsOrForever(
  named: Named,
  fallbackMs: number,
  msMin: number,
  msMax: number,
): Setting<number | null> {
  const range = `from ${String(msMin / 1_000)} to ${String(msMax / 1_000)}`;
  return {
    ...named,
    value: 'SECONDS|forever',
    fallback: fallbackMs,
    shownDefault: String(fallbackMs / 1_000),
    parse(text) {
      if (text === 'forever') return null;
      const ms = /^\d{1,12}$/.test(text) ? Number(text) * 1_000 : -1;
      if (ms < msMin || ms > msMax) throw new WrongValue(`"${text}" is not a whole number ${range}, or forever`);
      return ms;
    },
  };
}

/**
 * Off unless named. As a flag it takes no value; in the environment it is true or false, 1 or 0.
 */
export function onOrOff(named: Named): Setting<boolean> {
  return {
    ...named,
    value: null,
    fallback: false,
    shownDefault: 'false',
    parse(text) {
      if (text === 'true' || text === '1') return true;
      if (text === 'false' || text === '0') return false;
      throw new WrongValue(`"${text}" is not true or false`);
    },
  };
}

/** A value that `read` parses from text, or throws a `WrongValue`. Unset: null. */
export function parsed<T>(
  named: Named & { readonly value: string; readonly shownDefault: string },
  read: (text: string) => T,
): Setting<T | null> {
  return { ...named, fallback: null, parse: read };
}

/** Free text. `refuse` returns the error of a text, or null. */
export function text<T extends string | null>(
  named: Named & { readonly value: string; readonly shownDefault?: string },
  fallback: T,
  refuse: (text: string) => string | null,
): Setting<T | string> {
  return {
    shownDefault: fallback ?? '(none)',
    ...named,
    fallback,
    parse(given) {
      const objection = refuse(given);
      if (objection !== null) throw new WrongValue(objection);
      return given;
    },
  };
}
