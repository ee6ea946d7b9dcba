// The entry of a page that holds a run.

import { PageSource, pageOptions, showOnPage } from "./embedded.js";
import { Timeline } from "./timeline.js";

const source = new PageSource();
showOnPage(new Timeline(source, await source.run(), pageOptions()));
