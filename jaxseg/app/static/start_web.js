/** Starts the page with the model in the browser itself: no server sees a photograph. */

import { start } from "./page.js";
import { connect } from "./web_model.js";

start(connect);
