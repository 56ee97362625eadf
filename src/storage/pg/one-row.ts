import { present } from '../../errors/present.ts';

/** The row of a statement that always returns one, e.g. a SELECT without FROM. */
export function oneRow<T>({ rows }: { readonly rows: readonly T[] }): T & NonNullable<unknown> {
  return present(rows[0], 'the statement returns one row');
}
