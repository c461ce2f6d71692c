#!/usr/bin/env bash
# No arguments. Run base-to-new on the nine data sets of TCP's list with the seeds 1 to 3, then write a report. Runs that
# are finished aren't repeated.
sets=caltech101,oxford_pets,stanford_cars,oxford_flowers,food101,fgvc_aircraft,dtd,eurosat,ucf101
exec bash "$(dirname "$0")/../sweep.sh" base2new --trainers TCP --datasets $sets "$@"
