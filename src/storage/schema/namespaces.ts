import { and, eq } from '../pg/drizzle.ts';
import type { consumerGroups } from './group-schema.ts';
import type { topics } from './log-schema.ts';

/** A topic or a group is found by its namespace and its name, here and nowhere else. Everything else refers to ids. */
type NamedTable = typeof topics | typeof consumerGroups;

/** The namespace that a name without one is in. There is no other yet. */
const defaultNamespaceId = 0;

/** The columns by which a row is found. */
export function nameKey(name: string) {
  return { namespaceId: defaultNamespaceId, name };
}

/** The condition for the row of that name. */
export function isNamed(table: NamedTable, name: string) {
  const key = nameKey(name);
  return and(eq(table.namespaceId, key.namespaceId), eq(table.name, key.name));
}
