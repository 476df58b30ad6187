import './styles/tokens.css';
import './styles/base.css';
import './styles/shell.css';
import './styles/search.css';
import './styles/trace.css';
import './styles/panel.css';

import { render } from 'preact';
import { App } from './app/app.tsx';
import { listenToKeys } from './app/keys.ts';
import { followLinks, refine, route, address } from './app/router.ts';
import { followTheme } from './app/settings.ts';

followTheme();
followLinks();
listenToKeys();
if (address.value.pathname === '/' && route.value.page === 'search') refine(`/search${address.value.search}`);
const root = document.getElementById('app');
if (root) render(<App />, root);
