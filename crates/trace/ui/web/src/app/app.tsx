/** Which page shows. */

import { SearchPage } from '../pages/search/search-page.tsx';
import { TracePage } from '../pages/trace/trace-page.tsx';
import { isEmbedded, parseTraceId } from '../core/trace-url.ts';
import { address, route } from './router.ts';
import { Shell } from './shell.tsx';
import { Notice } from './states.tsx';
import { at } from '../core/base.ts';

export function App() {
  const current = route.value;
  const bare = current.page === 'trace' && isEmbedded(address.value.searchParams);
  return (
    <Shell bare={bare}>
      {current.page === 'search' && <SearchPage />}
      {current.page === 'trace' && <TracePage key={parseTraceId(current.id) ?? current.id} id={current.id} />}
      {current.page === 'unknown' && (
        <Notice title="There is no such page">
          <p>
            This server has a <a href={at('/search')}>search</a>, and a page for each trace.
          </p>
        </Notice>
      )}
    </Shell>
  );
}
